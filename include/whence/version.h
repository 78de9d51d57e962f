#pragma once

// The one place where the version is written; CMake reads these three lines.
#define WHENCE_VERSION_MAJOR 0
#define WHENCE_VERSION_MINOR 1
#define WHENCE_VERSION_PATCH 0

namespace whence {

// Version of the library that is linked, such as "0.1.0". It differs from the macros when headers and library do.
const char* version();

}  // namespace whence
