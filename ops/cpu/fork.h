// Two branches of a program at the same time.
#pragma once
#include <functional>

namespace whence::cpu {

/// Runs both on two threads, each with half the cores, and waits for both. False, and nothing has run, when the second
/// thread is busy with another plan.
bool run_forked(const std::function<void()>& first, const std::function<void()>& second);
int cores();

}  // namespace whence::cpu
