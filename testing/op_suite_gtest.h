// The op suite as GoogleTest cases.
#pragma once
#include <gtest/gtest.h>

#include "testing/op_suite.h"

namespace whence::testing {
inline void PrintTo(const OpCheck& c, std::ostream* os) { *os << c.name; }
}  // namespace whence::testing

/// At namespace scope: every check of every op whose name matches PATTERN, as NAME.passes/<op>_<sample>_<check>.
#define WHENCE_OP_SUITE(NAME, PATTERN)                                                                      \
  class NAME : public ::testing::TestWithParam<::whence::testing::OpCheck> {};                              \
  TEST_P(NAME, passes) {                                                                                    \
    for (const std::string& failure : GetParam().run()) ADD_FAILURE() << failure;                           \
  }                                                                                                         \
  INSTANTIATE_TEST_SUITE_P(, NAME, ::testing::ValuesIn(::whence::testing::op_checks(PATTERN)),              \
                           [](const ::testing::TestParamInfo<::whence::testing::OpCheck>& info) { return info.param.name; })
