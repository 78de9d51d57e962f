// The op suite over everything the library registers.
#include "testing/op_suite_gtest.h"

WHENCE_OP_SUITE(AllOps, "*");
