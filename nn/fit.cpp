#include "whence/nn/fit.h"

#include <fmt/format.h>

#include <atomic>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <limits>
#include <optional>

#include "whence/nn/checkpoint.h"
#include "whence/nn/metrics.h"
#include "whence/nn/progress.h"

namespace whence::nn {

namespace {

std::atomic<bool> stop_asked{false};

// While it lives, the first SIGINT or SIGTERM only asks; the second does what it would have done.
class Interrupts {
 public:
  explicit Interrupts(bool on) : on_(on) {
    if (!on) return;
    stop_asked = false;
    struct sigaction action {};
    action.sa_handler = [](int) { stop_asked = true; };
    action.sa_flags = SA_RESETHAND | SA_RESTART;
    sigaction(SIGINT, &action, &int_);
    sigaction(SIGTERM, &action, &term_);
  }
  ~Interrupts() {
    if (!on_) return;
    sigaction(SIGINT, &int_, nullptr);
    sigaction(SIGTERM, &term_, nullptr);
  }
  Interrupts(const Interrupts&) = delete;
  bool asked() const { return on_ && stop_asked; }

 private:
  bool on_;
  struct sigaction int_ {
  }, term_{};
};

// What a run remembers beside the step and the loader, as one line of a checkpoint's metadata.
struct Memory {
  double best = std::numeric_limits<double>::quiet_NaN();
  int64_t best_epoch = -1, waited = 0;
  double loss_sum = 0;  // of the epoch so far
  int64_t loss_count = 0;
  double loss = 0;  // of the last whole epoch
  std::string str() const {
    return fmt::format("{:a} {} {} {:a} {} {:a}", best, best_epoch, waited, loss_sum, loss_count, loss);
  }
  static Memory parse(const std::string& text) {
    Memory m;
    char* at = const_cast<char*>(text.c_str());
    auto real = [&] { return std::strtod(at, &at); };
    auto integer = [&] { return int64_t(std::strtoll(at, &at, 10)); };
    m.best = real(), m.best_epoch = integer(), m.waited = integer();
    m.loss_sum = real(), m.loss_count = integer(), m.loss = real();
    return m;
  }
};

class Run {
 public:
  Run(TrainStep& step, DataLoader& loader, const FitOptions& o) : step_(step), loader_(loader), o_(o) {
    if (o.epochs < 1) throw ValueError(fmt::format("fit: epochs must be at least 1, got {}", o.epochs));
    if (o.checkpoint_every < 0 || o.patience < 0)
      throw ValueError("fit: checkpoint_every and patience are not negative");
    if (o.patience > 0 && !o.validate) throw ValueError("fit: patience needs validate");
    if (o.folder.empty()) return;
    std::filesystem::create_directories(o.folder);
    checkpoints_.emplace(o.folder + "/checkpoints", o.keep);
    const std::string path = o.folder + "/metrics.jsonl";
    if (auto found = checkpoints_->latest()) resume(found->path, path);
    metrics_.emplace(path);
  }

  FitResult go() {
    FitResult r;
    const int64_t total = o_.epochs * loader_.batches();
    ProgressOptions quiet;
    if (!o_.progress) quiet = {.fd = -1, .tty = 0};
    Progress bar(total, o_.label, quiet);
    int64_t done = loader_.state().epoch * loader_.batches() + loader_.state().position;
    bar.update(done);
    Interrupts interrupts(o_.catch_interrupt);
    while (done < total && !r.interrupted && !r.stopped_early) {
      Batch batch = loader_.next();
      const double loss = step_(batch);
      m_.loss_sum += loss;
      ++m_.loss_count;
      smooth_ = done == 0 || smooth_ == 0 ? loss : 0.95 * smooth_ + 0.05 * loss;
      ++done;
      if (metrics_)
        metrics_->write({{"batch", done},
                         {"step", step_.steps()},
                         {"epoch", batch.epoch},
                         {"loss", loss},
                         {"lr", step_.learning_rate()},
                         {"grad_norm", step_.gradient_norm()}});
      bar.advance(1, fmt::format("epoch {}/{}  loss {:.4f}{}", batch.epoch + 1, o_.epochs, smooth_, shown_));
      if (batch.last) r.stopped_early = end_epoch(batch.epoch, done, bar);
      r.interrupted = interrupts.asked();
      const bool due = o_.checkpoint_every ? done % o_.checkpoint_every == 0 : batch.last;
      if (checkpoints_ && (due || done == total || r.interrupted || r.stopped_early)) save(done);
    }
    if (r.interrupted) bar.message(o_.folder.empty() ? "interrupted" : "interrupted: saved in " + o_.folder);
    bar.finish();
    if (metrics_) draw();
    if (!r.interrupted && best_) step_.model().load_state_dict(*best_);
    r.epochs = done / loader_.batches();
    r.loss = m_.loss;
    r.best = m_.best;
    r.best_epoch = m_.best_epoch;
    return r;
  }

 private:
  void resume(const std::string& path, const std::string& metrics) {
    Checkpoint c = load_checkpoint(path);
    if (!c.metadata.contains("loader") || !c.metadata.contains("fit"))
      throw ValueError(path + " was not written by fit: give the run a folder of its own");
    step_.load_state(c.tensors);
    loader_.restore(LoaderState::parse(c.metadata.at("loader")));
    m_ = Memory::parse(c.metadata.at("fit"));
    rewind_metrics(metrics, "batch", std::stod(c.metadata.at("batch")));
    if (m_.best_epoch >= 0) best_ = load_checkpoint(best_path()).tensors;
  }

  void save(int64_t done) {
    checkpoints_->save(done, step_.state(),
                       {{"loader", loader_.state().str()}, {"fit", m_.str()}, {"batch", std::to_string(done)}});
  }

  // True when it is time to stop.
  bool end_epoch(int64_t epoch, int64_t done, Progress& bar) {
    m_.loss = m_.loss_sum / double(m_.loss_count);
    m_.loss_sum = 0, m_.loss_count = 0;
    std::map<std::string, double> figures;
    if (o_.validate) {
      figures = o_.validate();
      const auto watched = o_.watch.empty() ? figures.begin() : figures.find(o_.watch);
      if (watched == figures.end()) throw ValueError("fit: validate gave no figure '" + o_.watch + "' to watch");
      const double now = watched->second;
      const bool better = m_.best_epoch < 0 || (o_.larger_is_better ? now > m_.best : now < m_.best);
      m_.waited = better ? 0 : m_.waited + 1;
      if (better) keep_best(now, epoch);
      shown_ = fmt::format("  {} {:.4f}", watched->first, now);
    }
    std::string line = fmt::format("{}: epoch {}/{}  loss {:.4f}", o_.label, epoch + 1, o_.epochs, m_.loss);
    for (auto& [name, v] : figures) line += fmt::format("  {} {:.4f}", name, v);
    if (o_.progress) bar.message(line);
    figures["loss"] = m_.loss;
    if (metrics_) {
      Metrics row{{"batch", done}, {"epoch", epoch}};
      for (auto& [name, v] : figures) row["epoch_" + name] = v;
      metrics_->write(row);
    }
    if (o_.on_epoch) o_.on_epoch(epoch, figures);
    return o_.patience > 0 && m_.waited >= o_.patience;
  }

  std::string best_path() const { return o_.folder + "/best.safetensors"; }

  void keep_best(double now, int64_t epoch) {
    m_.best = now;
    m_.best_epoch = epoch;
    best_.emplace();
    for (auto& [name, t] : step_.model().state_dict()) best_->emplace(name, t.to(Device{}).contiguous_copy());
    if (!o_.folder.empty()) save_checkpoint(best_path(), *best_, {{"epoch", std::to_string(epoch)}});
  }

  void draw() const {
    const std::vector<Metrics> lines = read_metrics(o_.folder + "/metrics.jsonl");
    auto [x, y] = metric_series(lines, "batch", "loss");
    save_curves(o_.folder + "/loss.svg", {{"loss", x, y}},
                {.title = o_.label, .x_label = "batch", .y_label = "loss", .smoothing = 0.9});
  }

  TrainStep& step_;
  DataLoader& loader_;
  const FitOptions& o_;
  std::optional<CheckpointFolder> checkpoints_;
  std::optional<MetricsWriter> metrics_;
  std::optional<std::map<std::string, Tensor>> best_;
  Memory m_;
  double smooth_ = 0;
  std::string shown_;  // the latest figure watched
};

}  // namespace

FitResult fit(TrainStep& step, DataLoader& loader, const FitOptions& options) {
  return Run(step, loader, options).go();
}

}  // namespace whence::nn
