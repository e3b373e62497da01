# What `cmake --install` does beyond copying: files that name the places they are installed to.
# TOE_SOURCE and TOE_FLEXTOE (the built program) are set by cmake/ToeProducts.cmake.
set(root "$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}")
set(TOE_BINDIR "${CMAKE_INSTALL_PREFIX}/bin")
set(TOE_LIBDIR "${CMAKE_INSTALL_PREFIX}/lib")
if(CMAKE_INSTALL_PREFIX MATCHES "^/usr(/local)?/?$")
  set(TOE_SYSCONFDIR /etc)
else()
  set(TOE_SYSCONFDIR "${CMAKE_INSTALL_PREFIX}/etc")
endif()

configure_file("${TOE_SOURCE}/packaging/flextoe@.service.in"
               "${root}/lib/systemd/system/flextoe@.service" @ONLY)
configure_file("${TOE_SOURCE}/packaging/memcached.service.d-flextoe.conf.in"
               "${root}/share/doc/flextoe/examples/memcached.service.d/flextoe.conf" @ONLY)

set(settings "$ENV{DESTDIR}${TOE_SYSCONFDIR}/flextoe")
if(NOT EXISTS "${settings}/default.toml")  # the operator's own stays
  file(COPY "${TOE_SOURCE}/packaging/default.toml" DESTINATION "${settings}")
endif()

execute_process(COMMAND "${TOE_FLEXTOE}" manual "${root}/share/man" RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "the manual pages could not be written")
endif()
