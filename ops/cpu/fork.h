// Two branches of a program at the same time.
#pragma once
#include <functional>

namespace whence::cpu {

/// Runs both on two threads, each with half the cores, and waits for both. When the second thread is busy with another
/// plan, one follows the other.
void run_forked(const std::function<void()>& first, const std::function<void()>& second);
int cores();

}  // namespace whence::cpu
