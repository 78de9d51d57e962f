// The op suite as GoogleTest cases.
#pragma once
#include <gtest/gtest.h>

#include "whence/testing/op_suite.h"

namespace whence::suite {
inline void PrintTo(const OpCheck& c, std::ostream* os) { *os << c.name; }
}  // namespace whence::suite

/// At namespace scope: every check of every op whose name matches PATTERN, as NAME.passes/<op>_<sample>_<check>.
#define WHENCE_OP_SUITE(NAME, PATTERN)                                            \
  class NAME : public ::testing::TestWithParam<::whence::suite::OpCheck> {};      \
  TEST_P(NAME, passes) {                                                          \
    for (const std::string& failure : GetParam().run()) ADD_FAILURE() << failure; \
  }                                                                               \
  INSTANTIATE_TEST_SUITE_P(                                                       \
      , NAME, ::testing::ValuesIn(::whence::suite::op_checks(PATTERN)),           \
      [](const ::testing::TestParamInfo<::whence::suite::OpCheck>& info) { return info.param.name; })
