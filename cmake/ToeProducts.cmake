# What a user gets: bin/flextoe and lib/libtoe.so.

# The program: main.cc joins the verbs of src/cli with the engine behind `run`.
if(EXISTS ${CMAKE_SOURCE_DIR}/src/cli/main.cc)
  add_executable(flextoe ${CMAKE_SOURCE_DIR}/src/cli/main.cc)
  target_link_libraries(flextoe PRIVATE toe_cli toe_engine ${TOE_ENGINE_LIBRARIES})
  toe_link_time_optimise(flextoe)
endif()

# The preload library needs libc only and shows only the names of its version script.
file(GLOB_RECURSE libtoe_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/libtoe/*.cc)
list(FILTER libtoe_sources EXCLUDE REGEX "_test\\.cc$")
if(libtoe_sources)
  add_library(libtoe_so SHARED ${libtoe_sources})
  set_target_properties(libtoe_so PROPERTIES OUTPUT_NAME toe)
  target_link_libraries(libtoe_so PRIVATE toe_shm toe_base)
  target_compile_options(libtoe_so PRIVATE -fno-exceptions -fno-rtti -fvisibility=hidden)
  target_link_options(libtoe_so PRIVATE -static-libgcc -static-libstdc++ -Wl,--as-needed
                      -Wl,--exclude-libs,ALL -Wl,-z,relro,-z,now)
  if(NOT TOE_SANITIZE)
    target_link_options(libtoe_so PRIVATE -Wl,-z,defs)
  endif()
  if(EXISTS ${CMAKE_SOURCE_DIR}/src/libtoe/libtoe.map)
    target_link_options(libtoe_so PRIVATE
                        -Wl,--version-script=${CMAKE_SOURCE_DIR}/src/libtoe/libtoe.map)
    set_property(TARGET libtoe_so APPEND PROPERTY LINK_DEPENDS
                 ${CMAKE_SOURCE_DIR}/src/libtoe/libtoe.map)
  endif()
endif()

# `make install`, and through it `make deb`.
if(TARGET flextoe AND TARGET libtoe_so)
  install(TARGETS flextoe RUNTIME DESTINATION bin)
  install(TARGETS libtoe_so LIBRARY DESTINATION lib)
  install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/toe DESTINATION include)
  install(FILES ${CMAKE_SOURCE_DIR}/README.md DESTINATION share/doc/flextoe)
  install(DIRECTORY ${CMAKE_SOURCE_DIR}/docs/ DESTINATION share/doc/flextoe/docs)
  install(CODE "set(TOE_SOURCE \"${CMAKE_SOURCE_DIR}\")
                set(TOE_FLEXTOE \"$<TARGET_FILE:flextoe>\")")
  install(SCRIPT ${CMAKE_SOURCE_DIR}/packaging/install.cmake)
endif()
