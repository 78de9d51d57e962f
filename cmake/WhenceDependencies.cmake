# Finds everything at once and complains once: a missing package is listed with the Debian package that brings it.
set(whence_missing)
set(whence_missing_apt)
macro(whence_need what apt found)
  if(NOT (${found}))
    list(APPEND whence_missing "${what}")
    list(APPEND whence_missing_apt "${apt}")
  endif()
endmacro()

# Linked into the library, so consumers of the static archive need them too (see WhenceConfig.cmake.in).
set(whence_link_dependencies)
# Headers that only the library's own sources see.
add_library(whence_private_headers INTERFACE)

find_package(Threads REQUIRED)
list(APPEND whence_link_dependencies Threads::Threads)

set(WHENCE_HAVE_OPENMP OFF)
if(WHENCE_OPENMP)
  find_package(OpenMP QUIET COMPONENTS CXX)
  whence_need("OpenMP (or -DWHENCE_OPENMP=OFF)" "g++" OpenMP_CXX_FOUND)
  if(OpenMP_CXX_FOUND)
    set(WHENCE_HAVE_OPENMP ON)
    list(APPEND whence_link_dependencies OpenMP::OpenMP_CXX)
  endif()
endif()

# Headers only. Its CMake target also asks to link xtl, which we do not use, so the package is not taken from there.
find_path(WHENCE_XSIMD_INCLUDE_DIR xsimd/xsimd.hpp)
mark_as_advanced(WHENCE_XSIMD_INCLUDE_DIR)
whence_need("xsimd >= 8" "libxsimd-dev" WHENCE_XSIMD_INCLUDE_DIR)
if(WHENCE_XSIMD_INCLUDE_DIR)
  target_include_directories(whence_private_headers SYSTEM INTERFACE "${WHENCE_XSIMD_INCLUDE_DIR}")
  file(STRINGS "${WHENCE_XSIMD_INCLUDE_DIR}/xsimd/config/xsimd_config.hpp" whence_xsimd_version_lines
       REGEX "define XSIMD_VERSION_(MAJOR|MINOR|PATCH) ")
  string(REGEX REPLACE "[^0-9]+([0-9]+)[^0-9]+([0-9]+)[^0-9]+([0-9]+)" "\\1.\\2.\\3" xsimd_VERSION
         "${whence_xsimd_version_lines}")
endif()

find_package(fmt QUIET CONFIG)
whence_need("fmt" "libfmt-dev" fmt_FOUND)
if(fmt_FOUND)
  list(APPEND whence_link_dependencies fmt::fmt)
endif()

find_package(nlohmann_json QUIET CONFIG)
whence_need("nlohmann-json" "nlohmann-json3-dev" nlohmann_json_FOUND)
if(nlohmann_json_FOUND)
  target_link_libraries(whence_private_headers INTERFACE nlohmann_json::nlohmann_json)
endif()

find_package(ZLIB QUIET)
whence_need("zlib" "zlib1g-dev" ZLIB_FOUND)
if(ZLIB_FOUND)
  list(APPEND whence_link_dependencies ZLIB::ZLIB)
endif()

# Optional: without it, reading and writing PNG files throws.
find_package(PNG QUIET)
if(PNG_FOUND)
  list(APPEND whence_link_dependencies PNG::PNG)
  target_compile_definitions(whence_private_headers INTERFACE WHENCE_HAVE_PNG=1)
endif()

if(WHENCE_BUILD_EXAMPLES)
  find_package(CLI11 QUIET CONFIG)
  whence_need("CLI11 (or -DWHENCE_BUILD_EXAMPLES=OFF)" "libcli11-dev" CLI11_FOUND)
endif()
if(WHENCE_BUILD_BENCH)
  find_package(benchmark QUIET CONFIG)
  # The peer of the matrix products, when it is there.
  find_package(BLAS QUIET)
  find_path(WHENCE_CBLAS_INCLUDE_DIR cblas.h PATH_SUFFIXES openblas openblas-pthread)
  mark_as_advanced(WHENCE_CBLAS_INCLUDE_DIR)
  add_library(whence_peer_blas INTERFACE)
  if(BLAS_FOUND AND WHENCE_CBLAS_INCLUDE_DIR)
    target_link_libraries(whence_peer_blas INTERFACE BLAS::BLAS)
    target_include_directories(whence_peer_blas SYSTEM INTERFACE "${WHENCE_CBLAS_INCLUDE_DIR}")
    target_compile_definitions(whence_peer_blas INTERFACE WHENCE_CBLAS)
  endif()
  whence_need("Google Benchmark (or -DWHENCE_BUILD_BENCH=OFF)" "libbenchmark-dev" benchmark_FOUND)
endif()
if(WHENCE_BUILD_TESTS)
  find_package(GTest QUIET)
  whence_need("GoogleTest (or -DWHENCE_BUILD_TESTS=OFF)" "libgtest-dev" GTest_FOUND)
  if(GTest_FOUND)
    whence_need("GoogleMock (or -DWHENCE_BUILD_TESTS=OFF)" "libgmock-dev" "TARGET;GTest::gmock")
  endif()
endif()

if(whence_missing)
  list(JOIN whence_missing "\n    " whence_missing_text)
  list(JOIN whence_missing_apt " " whence_missing_apt_text)
  message(FATAL_ERROR "Whence needs packages that were not found:\n    ${whence_missing_text}\n"
                      "On Debian or Ubuntu, scripts/setup.sh installs what is missing, or by hand:\n"
                      "    sudo apt-get install ${whence_missing_apt_text}\n")
endif()
