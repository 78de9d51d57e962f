#include "whence/autograd/function.h"

#include <algorithm>
#include <list>
#include <mutex>

namespace whence {

namespace {
constexpr size_t kMaxSignatures = 64;  // the least recently used trace goes first

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
  std::list<std::shared_ptr<Trace>> traces;  // the latest used first
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
    auto& traces = state_->traces;
    auto found = std::find_if(traces.begin(), traces.end(), [&](auto& t) { return t->fits(inputs); });
    if (found != traces.end()) {
      traces.splice(traces.begin(), traces, found);
      trace = traces.front();
    } else {
      trace = std::make_shared<Trace>();
      trace->graph = std::make_unique<Graph>();
      std::vector<Var> vars;
      for (size_t i = 0; i < inputs.size(); ++i) {
        trace->types.push_back({inputs[i].shape(), inputs[i].dtype()});
        trace->names.push_back("argument " + std::to_string(i));
        vars.push_back(trace->graph->input(trace->names[i], inputs[i].shape(), inputs[i].dtype()));
      }
      std::vector<Var> results = body(vars);
      for (const Var& v : results) trace->graph->check_own(v, "a result of the function");
      trace->plan = compile(results, state_->options);
      traces.push_front(trace);
      if (traces.size() > kMaxSignatures) traces.pop_back();
    }
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
