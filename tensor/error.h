// Every failure in Whence is one of these exceptions; the library never exits or aborts.
#pragma once
#include <stdexcept>
#include <string>

namespace whence {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
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
