// The second thread of forked programs: one for the process, woken by a condition variable.
#include "ops/cpu/fork.h"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace whence::cpu {

namespace {

// Caps the threads of OpenMP regions that this thread starts.
struct Half {
#ifdef _OPENMP
  const int before = omp_get_max_threads();
  Half() { omp_set_num_threads(std::max(1, before / 2)); }
  ~Half() { omp_set_num_threads(before); }
#else
  Half() {}
#endif
};

class Helper {
 public:
  Helper() : thread_([this] { serve(); }) {}
  ~Helper() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  std::mutex busy;  // held by the plan that uses the helper

  void start(const std::function<void()>& job) {
    {
      std::lock_guard lock(mutex_);
      job_ = &job;
      error_ = nullptr;
    }
    wake_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return job_ == nullptr; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return job_ || stop_; });
      if (!job_) return;
      const std::function<void()>* job = job_;
      lock.unlock();
      std::exception_ptr error;
      try {
        Half half;
        (*job)();
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      error_ = error;
      job_ = nullptr;
      done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const std::function<void()>* job_ = nullptr;
  std::exception_ptr error_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace

int cores() {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return int(std::thread::hardware_concurrency());
#endif
}

bool run_forked(const std::function<void()>& first, const std::function<void()>& second) {
  static Helper helper;
  std::unique_lock mine(helper.busy, std::try_to_lock);
  if (!mine) return false;
  helper.start(second);
  std::exception_ptr error;
  try {
    Half half;
    first();
  } catch (...) {
    error = std::current_exception();
  }
  helper.wait();
  if (error) std::rethrow_exception(error);
  return true;
}

}  // namespace whence::cpu
