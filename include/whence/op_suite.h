// The test suite for operations as GoogleTest cases: WHENCE_OP_SUITE(Name, "pattern"). Link Whence::op_suite.
#pragma once

#include "whence/testing/op_suite_gtest.h"
