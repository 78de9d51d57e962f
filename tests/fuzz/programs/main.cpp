// Random programs against the public interface: every op, with operands, attributes, sweeps, plans and feeds that fit
// or do not fit. Each ends in a value or in an exception of tensor/error.h; anything else is a fault of the library and
// is told with the program.
// usage: fuzz_programs [programs] [first seed] [jobs]      (fuzz_programs 1 SEED repeats one program)
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <new>

#include "whence/tensor/parallel.h"
#include "tests/fuzz/programs/program.h"

using namespace programs;

// ---- memory ends early ---------------------------------------------------------------------------------------------
// Absurd sizes must fail at once and alike in every build. Tensors ask for theirs with aligned_alloc, which the limit
// on the address space stops (under the address sanitizer, its own limit); all else comes through here.

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kLimitAddressSpace = false;  // the sanitizer needs it
extern "C" const char* __tsan_default_options() { return "allocator_may_return_null=1:max_allocation_size_mb=2000"; }
extern "C" const char* __asan_default_options() {  // what libraries have from the sanitizer's new goes to delete below
  return "allocator_may_return_null=1:alloc_dealloc_mismatch=0:max_allocation_size_mb=2000:detect_leaks=0";
}
#else
constexpr bool kLimitAddressSpace = true;
#endif

[[gnu::noinline]] void* operator new(size_t bytes) {
  void* p = bytes > size_t(1) << 28 ? nullptr : std::malloc(bytes ? bytes : 1);
  if (!p) throw std::bad_alloc();
  return p;
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace {

// ---- children ------------------------------------------------------------------------------------------------------

void on_alarm(int) {
  const char text[] = "FAULT: a program does not end\n";
  (void)!::write(2, text, sizeof text - 1);
  ::_exit(3);
}

// Runs programs until `end` or the first crash; returns the exit status of the child.
int child(long begin, long end, long step) {
  std::signal(SIGALRM, on_alarm);
  if (kLimitAddressSpace) {
    rlimit limit{size_t(3) << 30, size_t(3) << 30};
    ::setrlimit(RLIMIT_AS, &limit);
  }
  cpu::set_num_threads(1);
  for (long seed = begin; seed < end; seed += step) {
    report->seed = seed;
    report->length = 0;
    ::alarm(60);
    Program(seed).run();
  }
  return 0;
}

// One worker: children of a few thousand programs each, so that none grows for ever and a crash ends only one.
long worker(long begin, long end, long step) {
  long crashes = 0;
  for (long at = begin; at < end;) {
    const long until = std::min(end, at + 4000 * step);
    report->seed = -1;
    std::fflush(nullptr);
    pid_t pid = ::fork();
    if (pid == 0) {
      int status = child(at, until, step);
      std::fflush(nullptr);
      ::_exit(status);
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
      at = until;
      continue;
    }
    ++crashes;
    if (WIFSIGNALED(status)) std::fprintf(stderr, "FAULT: %s\n", ::strsignal(WTERMSIG(status)));
    else std::fprintf(stderr, "FAULT: the program ended with status %d\n", WEXITSTATUS(status));
    report->print();
    if (report->seed < 0) return crashes;
    at = report->seed + step;
  }
  return crashes;
}

}  // namespace

int main(int argc, char** argv) {
  const long programs = argc > 1 ? std::atol(argv[1]) : 3000, first = argc > 2 ? std::atol(argv[2]) : 1,
             jobs = argc > 3 ? std::max(1L, std::atol(argv[3])) : 1;
  auto* reports = static_cast<Report*>(
      ::mmap(nullptr, sizeof(Report) * size_t(jobs), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (reports == MAP_FAILED) return 2;
  report = reports;
  if (programs == 1) {
    std::setvbuf(stderr, nullptr, _IONBF, 0);
    long crashes = worker(first, first + 1, 1);
    report->print();
    return crashes + report->faults > 0;
  }
  std::vector<pid_t> workers;
  for (long j = 0; j < jobs; ++j) {
    std::fflush(nullptr);
    pid_t pid = ::fork();
    if (pid == 0) {
      report = reports + j;
      report->faults += worker(first + j, first + programs, jobs);
      ::_exit(0);
    }
    workers.push_back(pid);
  }
  for (pid_t pid : workers) ::waitpid(pid, nullptr, 0);
  Report sum;
  for (long j = 0; j < jobs; ++j) {
    sum.values += reports[j].values, sum.errors += reports[j].errors;
    sum.runs += reports[j].runs, sum.faults += reports[j].faults;
  }
  std::printf("%ld programs from seed %ld: %ld steps gave values, %ld errors, %ld runs; %ld faults\n", programs, first,
              sum.values, sum.errors, sum.runs, sum.faults);
  return sum.faults > 0;
}
