# Tests and their levels. A level is a ctest label: unit, sim, system, fuzz, sanitize, tidy.
# In a build with sanitizers, unit and sim tests carry the label `sanitize` instead.
include(GoogleTest)

function(toe_label level result)
  if(TOE_SANITIZE AND level MATCHES "^(unit|sim)$")
    set(level sanitize)
  endif()
  set(${result} ${level} PARENT_SCOPE)
endfunction()

add_custom_target(toe_tests)  # all programs of toe_unit_test, and what toe_command_test DEPENDS on

# toe_unit_test(NAME SOURCES file... [LINK target...] [LEVEL label] [TIMEOUT seconds])
# A gtest program; every gtest case is one ctest case. It links gtest, gmock and rapidcheck.
function(toe_unit_test name)
  cmake_parse_arguments(ARG "" "LEVEL;TIMEOUT" "SOURCES;LINK" ${ARGN})
  if(NOT ARG_LEVEL)
    set(ARG_LEVEL unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  toe_label(${ARG_LEVEL} label)
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} rapidcheck Threads::Threads
                                        GTest::gmock GTest::gtest GTest::gtest_main)
  add_dependencies(toe_tests ${name})
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS ${label} TIMEOUT ${ARG_TIMEOUT})
endfunction()

# toe_command_test(NAME LEVEL label COMMAND command... [DEPENDS target...] [TIMEOUT seconds]
#                  [SERIAL])
# A script or program: exit 0 passed, 77 skipped (its last line is the reason), else failed.
# SERIAL: never beside another test (network namespaces, measured time).
function(toe_command_test name)
  cmake_parse_arguments(ARG "SERIAL" "LEVEL;TIMEOUT" "COMMAND;DEPENDS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(ARG_DEPENDS)
    add_dependencies(toe_tests ${ARG_DEPENDS})
  endif()
  add_test(NAME ${name} COMMAND ${ARG_COMMAND} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  toe_label(${ARG_LEVEL} label)
  set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT ${ARG_TIMEOUT}
    SKIP_RETURN_CODE 77 ENVIRONMENT "TOE_BUILD=${CMAKE_BINARY_DIR}")
  if(ARG_SERIAL)
    set_tests_properties(${name} PROPERTIES RUN_SERIAL TRUE)
  endif()
endfunction()
