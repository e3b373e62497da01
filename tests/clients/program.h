// The main() of every program of this folder: command line in, exit status out.
#ifndef TOE_CLIENTS_PROGRAM_H_
#define TOE_CLIENTS_PROGRAM_H_

#include <exception>
#include <iostream>

#include <CLI/CLI.hpp>

namespace toe::clients {

/// Parses the command line and calls `body()`. Its result, 1 if it throws, 2 for bad usage.
template <class Body>
int run_program(CLI::App& app, int argc, char** argv, Body body) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  try {
    return body();
  } catch (const std::exception& failure) {
    std::cerr << app.get_name() << ": " << failure.what() << std::endl;
    return 1;
  }
}

}  // namespace toe::clients

#endif  // TOE_CLIENTS_PROGRAM_H_
