# toe_folder(NAME [CORE] [THREADS] [LINK folder...] [LIBRARIES target...])
#
# src/NAME/**/*.cc becomes the static library toe_NAME, its *_test.cc the unit test program
# toe_NAME_test. A folder without sources is a header-only library.
# THREADS: several threads or processes meet in it: its unit tests run under the thread sanitizer
# too, those of other folders do not.
# CORE: compiled without exceptions and run-time type information.
# Left out of the library: main.cc, and libtoe's preload/ and preload*.cc, whose functions carry
# the names of libc and would replace them in every program that links the library.
function(toe_folder name)
  cmake_parse_arguments(ARG "CORE;THREADS" "" "LINK;LIBRARIES" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cc)
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$|/src/cli/main\\.cc$|/src/libtoe/preload")

  list(TRANSFORM ARG_LINK PREPEND toe_)
  if(sources)
    add_library(toe_${name} STATIC ${sources})
    target_link_libraries(toe_${name} PUBLIC ${ARG_LINK} ${ARG_LIBRARIES})
    if(ARG_CORE)
      target_compile_options(toe_${name} PRIVATE
        $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions> $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti>)
    endif()
    if(name MATCHES "^(wire|flow|shm|datapath)$")
      toe_link_time_objects(toe_${name})
    endif()
    if(name MATCHES "^(base|shm|libtoe)$")  # also part of libtoe.so, which exports nothing else
      target_compile_options(toe_${name} PRIVATE -fvisibility=hidden)
    endif()
  else()
    add_library(toe_${name} INTERFACE)
    target_link_libraries(toe_${name} INTERFACE ${ARG_LINK} ${ARG_LIBRARIES})
  endif()

  if(tests AND (ARG_THREADS OR NOT TOE_SANITIZE MATCHES "thread"))
    toe_unit_test(toe_${name}_test SOURCES ${tests} LINK toe_${name})
  endif()
endfunction()
