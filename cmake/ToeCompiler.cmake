# Language level, warnings, optimisation and instrumentation for every target.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/archive)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
# Line tables in the release too: profiles and core dumps need them, the running program does not
# load them. Full debug information would double the time to build.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1 -DNDEBUG")
set(CMAKE_C_FLAGS_RELEASE "-O2 -g1 -DNDEBUG")
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g")
set(CMAKE_C_FLAGS_DEBUG "-O1 -g")

set(TOE_SANITIZE "" CACHE STRING "Sanitizers of the whole build, as in -fsanitize=")

add_compile_options(-Wall -Wextra -Wconversion -Werror -fno-omit-frame-pointer)
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  add_compile_options(-march=x86-64-v2)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Wthread-safety>)
endif()
if(TOE_SANITIZE)
  set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1")  # enough for back traces, and faster to build
  add_compile_options(-fsanitize=${TOE_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${TOE_SANITIZE} -fno-sanitize-recover=all)
  if(TOE_SANITIZE MATCHES "thread")
    add_compile_options(-Wno-error=tsan)  # g++ warns on fences, which the wait protocols use
  endif()
endif()

# The stages of the data path are small functions in many files; only across files does the
# compiler see how little of their values each needs (a sixth of the time per request). The objects
# hold machine code too: tests link without this, the programs that are measured with it.
set(TOE_LTO OFF)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_BUILD_TYPE STREQUAL "Release")
  set(TOE_LTO ON)
  # Else the linker's plugin optimises wherever it finds such objects; and what has both options
  # is not optimised, whatever their order.
  add_link_options($<$<NOT:$<BOOL:$<TARGET_PROPERTY:TOE_LINK_TIME>>>:-fno-lto>)
endif()
function(toe_link_time_objects target)
  if(TOE_LTO)
    target_compile_options(${target} PRIVATE -flto -ffat-lto-objects)
  endif()
endfunction()
function(toe_link_time_optimise target)
  if(TOE_LTO)
    set_target_properties(${target} PROPERTIES TOE_LINK_TIME ON)
    target_link_options(${target} PRIVATE -flto=auto -O2)
  endif()
endfunction()

option(TOE_FUZZ "Build the libFuzzer targets (needs clang)" OFF)
if(TOE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

include_directories(${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)

find_program(TOE_CCACHE ccache)
if(TOE_CCACHE)
  # Paths below the source tree count as relative, so that another checkout hits the cache too.
  set(launcher ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
               ${TOE_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${launcher})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
endif()
