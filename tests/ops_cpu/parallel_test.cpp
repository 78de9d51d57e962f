// Threads: what loops promise, who may call them, what decides how many there are, and children of fork().
#include "whence/tensor/parallel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace whence::cpu {
namespace {

using namespace std::chrono_literals;

struct Threads {
  explicit Threads(int n) { set_num_threads(n); }
  ~Threads() { set_num_threads(0); }
};

// Chunks that wait, for a while, until `wanted` threads are among them; how many came.
int threads_that_come(int wanted) {
  std::mutex mutex;
  std::set<std::thread::id> seen;
  const auto deadline = std::chrono::steady_clock::now() + 20s;
  parallel_chunks(wanted, 1, [&](int64_t, int64_t) {
    for (;;) {
      {
        std::lock_guard lock(mutex);
        seen.insert(std::this_thread::get_id());
        if (int(seen.size()) == wanted) return;
      }
      if (std::chrono::steady_clock::now() > deadline) return;
      std::this_thread::sleep_for(100us);
    }
  });
  return int(seen.size());
}

// Runs f in a child of fork(); true when it ends, in time, with f() being true.
template <class F> bool in_child(F f) {
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(60);  // a child that hangs is killed
    _exit(f() ? 0 : 1);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int64_t sum_in_parallel(int64_t n) {
  std::atomic<int64_t> sum = 0;
  parallel_for(n, 1, [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) sum += i;
  });
  return sum;
}

TEST(Parallel, CoversTheRangeOnce) {
  for (int threads : {0, 1, 2, 7}) {
    Threads set(threads);
    for (int64_t n : {0, 1, 5, 1000, 100000}) {
      std::vector<int> hit(static_cast<size_t>(n));
      parallel_for(n, 3, [&](int64_t b, int64_t e) {
        for (int64_t i = b; i < e; ++i) ++hit[static_cast<size_t>(i)];
      });
      parallel_chunks(n, 7, [&](int64_t b, int64_t e) {
        EXPECT_EQ(b % 7, 0);
        EXPECT_EQ(e, std::min(n, b + 7));
        for (int64_t i = b; i < e; ++i) ++hit[static_cast<size_t>(i)];
      });
      for (int h : hit) ASSERT_EQ(h, 2);
    }
  }
}

#ifdef _OPENMP
TEST(Parallel, HelpersComeAwakeOrAsleep) {
  Threads set(4);
  EXPECT_EQ(threads_that_come(4), 4);
  EXPECT_EQ(threads_that_come(4), 4);
  std::this_thread::sleep_for(30ms);  // by now they sleep
  EXPECT_EQ(threads_that_come(4), 4);
  set_num_threads(2);  // no more than asked for, though there are more
  EXPECT_EQ(threads_that_come(2), 2);
}

TEST(Parallel, TheNumberOfThreadsIsSet) {
  const int before = num_threads();
  EXPECT_GE(before, 1);
  {
    Threads set(5);
    EXPECT_EQ(num_threads(), 5);
  }
  EXPECT_EQ(num_threads(), before);
}

TEST(Parallel, TheEnvironmentDecides) {
  if (const char* expected = std::getenv("WHENCE_TEST_THREADS")) {  // in the program that this test starts
    EXPECT_EQ(num_threads(), std::atoi(expected));
    return;
  }
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  const std::string command = "OMP_NUM_THREADS=3 WHENCE_TEST_THREADS=3 '" + self +
                              "' --gtest_brief=1 --gtest_filter=Parallel.TheEnvironmentDecides >/dev/null";
  EXPECT_EQ(std::system(command.c_str()), 0);
}
#endif

TEST(Parallel, AnAffinityMaskDecides) {
  EXPECT_TRUE(in_child([] {
    unsetenv("OMP_NUM_THREADS");
    cpu_set_t mask;
    sched_getaffinity(0, sizeof mask, &mask);
    int first = 0;
    while (!CPU_ISSET(first, &mask)) ++first;
    CPU_ZERO(&mask);
    CPU_SET(first, &mask);
    return sched_setaffinity(0, sizeof mask, &mask) == 0 && num_threads() == 1 && sum_in_parallel(1000) == 499500;
  }));
}

#ifndef __SANITIZE_THREAD__  // which cannot follow threads that a child of a process with threads starts
TEST(Parallel, AForkedChildHasItsOwnHelpers) {
  Threads set(2);
  EXPECT_EQ(sum_in_parallel(1000), 499500);  // the parent has helpers
  EXPECT_TRUE(in_child([] {
    for (int i = 0; i < 100; ++i)
      if (sum_in_parallel(1000) != 499500) return false;
    return num_threads() == 1 || threads_that_come(2) == 2;
  }));
  EXPECT_EQ(sum_in_parallel(1000), 499500);
}
#endif

TEST(Parallel, TheFirstChunkThatThrowsIsHeard) {
  Threads set(4);
  auto throwing = [](int64_t b, int64_t) {
    if (b >= 3) throw std::runtime_error(std::to_string(b));
  };
  for (int i = 0; i < 200; ++i) {
    try {
      parallel_chunks(50, 1, throwing);
      FAIL() << "nothing was thrown";
    } catch (const std::runtime_error& e) {
      ASSERT_STREQ(e.what(), "3");
    }
    ASSERT_EQ(sum_in_parallel(100), 4950);
  }
  EXPECT_THROW(run_together(2, [](int64_t) { throw std::runtime_error("x"); }), std::runtime_error);
}

TEST(Parallel, NestedLoopsStayOnTheirThread) {
  Threads set(4);
  std::atomic<int> strayed = 0;
  parallel_chunks(20, 1, [&](int64_t, int64_t) {
    const auto here = std::this_thread::get_id();
    if (num_threads() != 1) ++strayed;
    parallel_for(100, 1, [&](int64_t, int64_t) { strayed += std::this_thread::get_id() != here; });
    parallel_chunks(100, 1, [&](int64_t, int64_t) { strayed += std::this_thread::get_id() != here; });
    run_together(3, [&](int64_t) { strayed += std::this_thread::get_id() != here; });
  });
  EXPECT_EQ(strayed, 0);
}

TEST(Parallel, ManyThreadsCallAtOnce) {
  Threads set(3);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> callers;  // more than there are places to post a loop
  for (int t = 0; t < 24; ++t)
    callers.emplace_back([&, t] {
      for (int64_t i = 0; i < 200; ++i) {
        const int64_t n = 10 * t + i;
        wrong += sum_in_parallel(n) != n * (n - 1) / 2;
        if (i % 50 == 0) run_together(3, [&](int64_t k) { wrong += sum_in_parallel(k + 2) != (k + 2) * (k + 1) / 2; });
      }
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Parallel, FunctionsTogetherShareTheThreads) {
  Threads set(4);
  const int threads = num_threads();
  for (int64_t n : {1, 2, 3, 9}) {
    std::vector<int> share(static_cast<size_t>(n)), begun(static_cast<size_t>(n));
    std::vector<int64_t> sums(static_cast<size_t>(n));
    std::atomic<int> order = 0;
    std::atomic<bool> late = false;
    run_together(n, [&](int64_t i) {
      begun[size_t(i)] = order++;
      share[size_t(i)] = num_threads();
      sums[size_t(i)] = sum_in_parallel(1000);
      if (i == 0) late = true, late.notify_all();
      late.wait(false);  // for an earlier one
    });
    EXPECT_THAT(share, testing::Each(std::max(1, threads / int(n))));
    EXPECT_THAT(sums, testing::Each(499500));
    EXPECT_EQ(std::accumulate(begun.begin(), begun.end(), int64_t{0}), n * (n - 1) / 2);
  }
}

TEST(Parallel, ControlGroupsLimitTheThreads) {
  namespace fs = std::filesystem;
  const fs::path root = fs::temp_directory_path() / ("whence_cgroup_" + std::to_string(getpid()));
  auto write = [&](const std::string& path, const std::string& text) {
    fs::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text;
  };
  auto limit = [&] { return detail::cpu_limit(root.string()); };
  EXPECT_EQ(limit(), 0);  // nothing mounted

  write("proc/self/cgroup", "0::/work/job\n");
  EXPECT_EQ(limit(), 0);
  write("sys/fs/cgroup/work/job/cpu.max", "max 100000\n");
  EXPECT_EQ(limit(), 0);
  write("sys/fs/cgroup/work/cpu.max", "150000 100000\n");  // a parent's limit holds
  EXPECT_EQ(limit(), 1.5);
  write("sys/fs/cgroup/work/job/cpu.max", "50000 100000\n");
  EXPECT_EQ(limit(), 0.5);

  // Version 1, in a container that sees its own group as the root of the mount.
  write("proc/self/cgroup", "5:devices:/\n4:cpu,cpuacct:/docker/0123\n3:cpuset:/docker/0123\n1:name=systemd:/\n");
  EXPECT_EQ(limit(), 0);
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(limit(), 0);
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000\n");
  EXPECT_EQ(limit(), 3);
  write("proc/self/cgroup", "garbage\n7:cpu\n");
  EXPECT_EQ(limit(), 0);
  fs::remove_all(root);
}

}  // namespace
}  // namespace whence::cpu
