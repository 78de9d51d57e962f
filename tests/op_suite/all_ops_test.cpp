// The op suite over everything the library registers, on the CPU and on the fake device.
#include "testing/op_suite_gtest.h"
#include "testing/sim.h"

[[maybe_unused]] static const bool on_sim = [] {
  whence::suite::devices().push_back(whence::sim::device());
  return true;
}();

WHENCE_OP_SUITE(AllOps, "*");
