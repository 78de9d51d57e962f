// The plan's hash is made of names, shapes and attributes: two processes agree on it, whatever their addresses.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "whence/autograd/plan.h"
#include "whence/autograd/sweep.h"
#include "whence/ops/ops.h"

using namespace whence;

namespace {

uint64_t hash_of_a_step(double factor, int64_t n) {
  std::vector<char> shift(size_t(::getpid() % 97) * 1000 + 1);  // other addresses in another process
  Graph g;
  State w("w", Tensor::full({n, n}, 0.5)), m("m", Tensor::zeros({n, n}));
  Tensor large = Tensor::full({n, n}, double(::getpid()));  // bound, not part of the program
  Var x = g.input("x", {4, n}), wv = g.state(w), y = matmul(gelu(x), wv) + matmul(x, g.constant(large));
  Var loss = mean(square(y)) * factor, d = grad(loss, wv), next = g.state(m) * 0.9 + d;
  g.assign(m, next);
  g.assign(w, wv - next * g.scalar("lr"));
  return compile({loss}).hash();
}

TEST(PlanHash, TwoProcessesAgree) {
  int pipe_ends[2];
  ASSERT_EQ(::pipe(pipe_ends), 0);
  // A program started anew, with an address space of its own.
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(pipe_ends[1], 1);
    ::setenv("WHENCE_PRINT_HASH", "1", 1);
    ::execl("/proc/self/exe", "test_autograd", "--gtest_filter=PlanHash.PrintsItself", nullptr);
    ::_exit(127);
  }
  ::close(pipe_ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = ::read(pipe_ends[0], buffer, sizeof buffer)) > 0;) text.append(buffer, size_t(n));
  ::close(pipe_ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  char want[64];
  std::snprintf(want, sizeof want, "hash %016llx", static_cast<unsigned long long>(hash_of_a_step(2, 12)));
  EXPECT_NE(text.find(want), std::string::npos) << want << " against " << text;
}

TEST(PlanHash, PrintsItself) {  // the other process
  if (!std::getenv("WHENCE_PRINT_HASH")) return;
  std::printf("hash %016llx\n", static_cast<unsigned long long>(hash_of_a_step(2, 12)));
}

TEST(PlanHash, TellsStructuresApart) {
  EXPECT_EQ(hash_of_a_step(2, 12), hash_of_a_step(2, 12));
  EXPECT_NE(hash_of_a_step(2, 12), hash_of_a_step(3, 12));
  EXPECT_NE(hash_of_a_step(2, 12), hash_of_a_step(2, 10));
}

}  // namespace
