// The op suite over everything the library registers, on the CPU and on the fake device.
#include "whence/testing/op_suite_gtest.h"
#include "whence/testing/sim.h"

[[maybe_unused]] static const bool on_sim = [] {
  whence::suite::devices().push_back(whence::sim::device());
  return true;
}();

WHENCE_OP_SUITE(AllOps, "*");
