#include "whence/testing/sim.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <new>

#include "whence/autograd/plan/backend.h"
#include "whence/ops/cpu/step_runner.h"
#include "whence/tensor/tensor.h"

namespace whence::sim {
namespace {

using namespace planner;

Counts total;

// ---- memory ---------------------------------------------------------------------------------------------------------

class SimMemory : public MemorySpace {
 public:
  SimMemory() {
    void* p = ::mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw DeviceError("sim: cannot reserve an address range");
    begin_ = static_cast<std::byte*>(p);
  }

  void* allocate(size_t bytes, Device) override {
    std::lock_guard lock(mutex_);
    ++total.allocations;
    const size_t size = pages(bytes);
    for (auto at = free_.begin(); at != free_.end(); ++at)
      if (at->second >= size) {
        auto [offset, have] = *at;
        free_.erase(at);
        if (have > size) free_.emplace(offset + size, have - size);
        return begin_ + offset;
      }
    if (size > kReserved - top_) throw OutOfMemory("the sim device has no " + std::to_string(size) + " bytes left");
    const size_t offset = top_;
    top_ += size;
    if (open_) protect(PROT_READ | PROT_WRITE);
    return begin_ + offset;
  }

  void free(void* p, size_t bytes, Device) noexcept override {
    std::lock_guard lock(mutex_);
    free_.emplace(size_t(static_cast<std::byte*>(p) - begin_),
                  pages(bytes));  // never joined: programs repeat themselves
  }

  void copy(void* dst, Device, const void* src, Device, size_t bytes, Queue*) override {
    Launch open(*this);
    std::memmove(dst, src, bytes);
  }
  void copy(const View& src, const View& dst, Device) override {
    Launch open(*this);
    whence::copy(src, dst);
  }
  std::unique_ptr<Queue> queue(Device) override { return nullptr; }

  bool holds(const void* p) const { return p >= begin_ && p < begin_ + kReserved; }

  /// While one lives, device memory can be touched.
  class Launch {
   public:
    explicit Launch(SimMemory& memory) : memory_(memory) {
      std::lock_guard lock(memory_.mutex_);
      ++total.launches;
      if (memory_.open_++ == 0) memory_.protect(PROT_READ | PROT_WRITE);
    }
    ~Launch() {
      std::lock_guard lock(memory_.mutex_);
      if (--memory_.open_ == 0) memory_.protect(PROT_NONE);
    }

   private:
    SimMemory& memory_;
  };

 private:
  static constexpr size_t kReserved = size_t(16) << 30, kPage = 4096;
  static size_t pages(size_t bytes) { return (std::max<size_t>(bytes, 1) + kPage - 1) / kPage * kPage; }
  void protect(int how) { ::mprotect(begin_, top_, how); }

  std::byte* begin_;
  size_t top_ = 0;
  int open_ = 0;
  std::map<size_t, size_t> free_;  // offset -> bytes
  std::mutex mutex_;
};

SimMemory& memory() {
  static SimMemory* m = new SimMemory;  // never destroyed: tensors may outlive static destructors
  return *m;
}

void on_fault(int signal, siginfo_t* info, void*) {
  if (memory().holds(info->si_addr)) {
    static constexpr char text[] = "whence: the host touched memory of sim:0 outside a launch\n";
    [[maybe_unused]] ssize_t n = ::write(2, text, sizeof text - 1);
  }
  ::signal(signal, SIG_DFL);  // the access is tried again, and ends the program
}

// ---- queues ---------------------------------------------------------------------------------------------------------

class SimQueue : public Queue {
 public:
  void launch(std::function<void()> work) { items_.push_back({std::move(work), nullptr, 0}), ++put_; }
  uint64_t mark() override { return put_; }
  void wait(Queue& other, uint64_t at) override {
    ++total.waits;
    items_.push_back({nullptr, static_cast<SimQueue*>(&other), at});
  }
  void synchronize() override {
    SimQueue* only[] = {this};
    drain(only);
  }

  /// Runs everything, always taking from the last queue that can go on: an order that only marks can keep right.
  static void drain(std::span<SimQueue* const> queues) {
    for (bool any = true; any;) {
      any = false;
      for (size_t i = queues.size(); i-- > 0 && !any;) any = queues[i]->step();
    }
    for (SimQueue* q : queues)
      if (!q->items_.empty()) throw DeviceError("sim: a queue waits for work that nobody has put in");
  }

 private:
  struct Item {
    std::function<void()> work;
    SimQueue* other;
    uint64_t at;
  };
  bool step() {
    if (items_.empty()) return false;
    Item& item = items_.front();
    if (item.other && item.other->done_ < item.at) return false;
    if (item.work) {
      SimMemory::Launch open(memory());
      item.work();
      ++done_;
    }
    items_.pop_front();
    return true;
  }

  std::deque<Item> items_;
  uint64_t put_ = 0, done_ = 0;
};

// ---- the backend ----------------------------------------------------------------------------------------------------

constexpr int kQueues = 3;

class SimExecutable : public Executable {
 public:
  explicit SimExecutable(std::shared_ptr<const Program> program) : p_(program), runner_(std::move(program)) {}

  void run(const RunCall& call) override {
    SimQueue queues[kQueues];
    std::vector<uint64_t> mark(p_->steps.size());
    for (Id i = 0; i < p_->steps.size(); ++i) {
      const Step& s = p_->steps[i];
      SimQueue& q = queues[s.lane];
      for (Id w = s.waits; w < s.waits + s.n_waits; ++w) {
        const Id other = p_->waits[w];
        q.wait(queues[p_->steps[other].lane], mark[other]);
      }
      q.launch([this, i, &call] { runner_.run(i, call.base, *call.status); });
      mark[i] = q.mark();
    }
    SimQueue* all[kQueues] = {&queues[0], &queues[1], &queues[2]};
    SimQueue::drain(all);
  }

 private:
  std::shared_ptr<const Program> p_;
  cpu::StepRunner runner_;
};

class SimBackend : public Backend {
 public:
  const Kernel* native(const OpDef& op, std::span<const TensorType> in,
                       std::span<const TensorType> out) const override {
    if (!all_of(in) || !all_of(out)) return nullptr;
    return host().native(op, in, out);
  }
  bool fusable(const OpDef& op, const Attrs& attrs, std::span<const TensorType> in,
               const TensorType& out) const override {
    return all_of(in) && has(out) && host().fusable(op, attrs, in, out);
  }
  int lanes() const override { return kQueues; }
  double cost(double, int) const override { return 1000; }  // lanes always pay: they are what is tested
  std::unique_ptr<Executable> load(std::shared_ptr<const Program> program) override {
    return std::make_unique<SimExecutable>(std::move(program));
  }

 private:
  static Backend& host() { return backend_of({}); }
  static bool has(const TensorType& t) { return t.dtype == f64 ? t.shape.numel() <= 1 : t.dtype != f16; }
  static bool all_of(std::span<const TensorType> types) { return std::all_of(types.begin(), types.end(), has); }
};

}  // namespace

Device device() {
  static const bool once = [] {
    static SimBackend backend;
    register_memory(Device::Kind::sim, memory());
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGSEGV, &action, nullptr);
    return register_backend(Device::Kind::sim, backend);
  }();
  (void)once;
  return {Device::Kind::sim, 0};
}

Counts counts() { return total; }

}  // namespace whence::sim
