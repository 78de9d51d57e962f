// Every failure in Whence is one of these exceptions; the library never exits or aborts.
#pragma once
#include <stdexcept>
#include <string>

namespace whence {

/// A line of the user's program.
struct SourceLine {
  const char* file = nullptr;  ///< nullptr: none
  unsigned line = 0;
  std::string str() const;  ///< " at model.cpp:42"; "" for none
};
/// Where the function that this thread is in was called: errors thrown meanwhile say "recorded at model.cpp:42".
extern thread_local constinit SourceLine users_line;

struct Error : std::runtime_error {
  explicit Error(const std::string& text);  ///< with users_line, when the text names no line yet
};

struct ShapeError : Error {
  using Error::Error;
};  ///< Shapes, axes or ranks do not fit.
struct DTypeError : Error {
  using Error::Error;
};  ///< An element type is not accepted.
struct ValueError : Error {
  using Error::Error;
};  ///< An argument has a value that makes no sense.
struct OutOfMemory : Error {
  using Error::Error;
};  ///< Memory for a value, or for the work itself, is not to be had.
struct DeviceError : Error {
  using Error::Error;
};  ///< A device is absent, or failed.
struct MissingKernel : Error {
  using Error::Error;
};  ///< An op has no kernel for this device or dtype.
struct MissingRule : Error {
  using Error::Error;
};  ///< A sweep met ops without a vjp or a relevance rule.
struct NumericError : Error {
  using Error::Error;
};  ///< NaN or infinity where none may be.
struct IoError : Error {
  using Error::Error;
};  ///< A file is absent, malformed or cannot be written.
struct CommError : Error {
  using Error::Error;
};  ///< Communication between ranks failed.

}  // namespace whence
