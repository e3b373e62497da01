# toe_embed_bpf(FOLDER NAME SYMBOL): compiles bpf/NAME.bpf.c and puts the object's bytes into the
# library toe_FOLDER, as toe::FOLDER::SYMBOL[] and toe::FOLDER::SYMBOLSize. Nothing to do while
# the source does not exist.
find_program(TOE_BPF_CLANG NAMES clang-14 clang REQUIRED)

function(toe_embed_bpf folder name symbol)
  set(source ${CMAKE_SOURCE_DIR}/bpf/${name}.bpf.c)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/bpf)
  if(NOT EXISTS ${source})
    return()
  endif()
  get_target_property(type toe_${folder} TYPE)
  if(type STREQUAL "INTERFACE_LIBRARY")
    return()
  endif()
  set(object ${CMAKE_BINARY_DIR}/bpf/${name}.bpf.o)
  set(embedded ${CMAKE_BINARY_DIR}/bpf/${name}_object.cc)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/bpf)
  add_custom_command(OUTPUT ${object}
    COMMAND ${TOE_BPF_CLANG} -target bpf -mcpu=v3 -O2 -g -Wall -Werror
            -I${CMAKE_SOURCE_DIR}/bpf -I${CMAKE_SOURCE_DIR}/src -I${CMAKE_SOURCE_DIR}/tests
            -I/usr/include/${CMAKE_LIBRARY_ARCHITECTURE}
            -MD -MF ${object}.d -c ${source} -o ${object}
    DEPENDS ${source} DEPFILE ${object}.d VERBATIM)
  add_custom_command(OUTPUT ${embedded}
    COMMAND ${CMAKE_COMMAND} -DINPUT=${object} -DOUTPUT=${embedded} -DFOLDER=${folder}
            -DSYMBOL=${symbol} -P ${CMAKE_SOURCE_DIR}/cmake/EmbedBytes.cmake
    DEPENDS ${object} ${CMAKE_SOURCE_DIR}/cmake/EmbedBytes.cmake VERBATIM)
  target_sources(toe_${folder} PRIVATE ${embedded})
endfunction()
