#pragma once
#include <gtest/gtest.h>

#include <string>

#include "whence/tensor/error.h"

namespace whence {

/// The text of the exception of type E that f throws, "nothing was thrown" when it throws none. Another exception is a
/// failure of the test.
template <class E = Error, class F> std::string thrown(F&& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  } catch (const std::exception& e) {
    ADD_FAILURE() << "another exception: " << e.what();
    return "";
  }
  return "nothing was thrown";
}

}  // namespace whence
