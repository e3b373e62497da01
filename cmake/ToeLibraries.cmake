# Libraries from the distribution. tools/packages.txt names the packages that bring them.

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(libbpf REQUIRED IMPORTED_TARGET libbpf)
pkg_check_modules(libmnl REQUIRED IMPORTED_TARGET libmnl)
pkg_check_modules(libseccomp REQUIRED IMPORTED_TARGET libseccomp)
pkg_check_modules(libcap REQUIRED IMPORTED_TARGET libcap)
pkg_check_modules(tomlplusplus REQUIRED IMPORTED_TARGET tomlplusplus)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(GTest REQUIRED)
find_package(benchmark REQUIRED)
find_package(rapidcheck REQUIRED)

set(TOE_ENGINE_LIBRARIES
    Threads::Threads PkgConfig::libmnl PkgConfig::libseccomp PkgConfig::libcap
    PkgConfig::tomlplusplus fmt::fmt spdlog::spdlog nlohmann_json::nlohmann_json CLI11::CLI11)
set(TOE_CLI_LIBRARIES Threads::Threads fmt::fmt nlohmann_json::nlohmann_json CLI11::CLI11)
