#include "whence/autograd/function.h"

#include <mutex>

#include "whence/autograd/signature_cache.h"

namespace whence {

namespace {
constexpr size_t kMaxSignatures = 64;

struct Trace {
  std::vector<TensorType> types;
  std::vector<std::string> names;
  std::unique_ptr<Graph> graph;
  Plan plan;
  bool fits(std::span<const Tensor> in) const {
    if (in.size() != types.size()) return false;
    for (size_t i = 0; i < in.size(); ++i)
      if (in[i].dtype() != types[i].dtype || !(in[i].shape() == types[i].shape)) return false;
    return true;
  }
};
}  // namespace

struct TraceCache::State {
  CompileOptions options;
  std::mutex mutex;
  SignatureCache<Trace> traces{kMaxSignatures};
};

TraceCache::TraceCache(CompileOptions options) : state_(std::make_shared<State>()) {
  state_->options = std::move(options);
}

std::vector<Tensor> TraceCache::run(std::span<const Tensor> inputs, const Body& body, RunOptions options) const {
  if (!body) throw ValueError("TraceCache needs a function");
  for (size_t i = 0; i < inputs.size(); ++i)
    if (!inputs[i].defined())
      throw ValueError("argument " + std::to_string(i) + " of the function is an undefined tensor");
  std::shared_ptr<Trace> trace;
  {
    std::lock_guard lock(state_->mutex);
    auto make = [&] {
      auto fresh = std::make_shared<Trace>();
      fresh->graph = std::make_unique<Graph>();
      std::vector<Var> vars;
      for (size_t i = 0; i < inputs.size(); ++i) {
        fresh->types.push_back({inputs[i].shape(), inputs[i].dtype()});
        fresh->names.push_back("argument " + std::to_string(i));
        vars.push_back(fresh->graph->input(fresh->names[i], inputs[i].shape(), inputs[i].dtype()));
      }
      std::vector<Var> results = body(vars);
      for (const Var& v : results) fresh->graph->check_own(v, "a result of the function");
      fresh->plan = compile(results, state_->options);
      return fresh;
    };
    trace = state_->traces.get([&](const Trace& t) { return t.fits(inputs); }, make);
  }
  Feeds feeds;
  feeds.reserve(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) feeds.emplace_back(trace->names[i], inputs[i]);
  Results r = trace->plan.run(feeds, options);
  return {r.begin(), r.end()};
}

size_t TraceCache::signatures() const {
  std::lock_guard lock(state_->mutex);
  return state_->traces.size();
}

}  // namespace whence
