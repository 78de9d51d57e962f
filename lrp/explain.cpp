#include "whence/lrp/explain.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "whence/lrp/report.h"
#include "whence/nn/data/csv.h"
#include "whence/nn/io/atomic_file.h"
#include "whence/nn/io/npy.h"
#include "whence/ops/ops.h"

namespace whence::lrp {
namespace {

Tensor batched(const Tensor& sample) {
  Shape s = sample.shape();
  s.insert(0, 1);
  return sample.contiguous_tensor().reshaped(s);
}

std::vector<double> softmax_of(const std::vector<double>& z) {
  double top = *std::max_element(z.begin(), z.end()), total = 0;
  std::vector<double> p(z.size());
  for (size_t i = 0; i < z.size(); ++i) total += p[i] = std::exp(z[i] - top);
  for (double& v : p) v /= total;
  return p;
}

// What the ids select: the results of embedding ops that read them.
std::vector<Var> embedded(Graph& g, Var ids) {
  std::vector<Var> rows;
  for (size_t i = 0; i < g.node_count(); ++i) {
    const Node& n = g.node(NodeId(i));
    if (n.op->name == "embedding" && n.pass == 0 && g.inputs(n)[0] == ids.id()) rows.push_back(g.var(n.out_begin));
  }
  return rows;
}

// Probability of the class for copies of the sample with some positions replaced.
ScoreBatch token_scores(const ModelFn& model, const Tensor& sample, int64_t target, int64_t removed) {
  struct Traced {
    Graph g;
    Var p;
    Plan plan;
  };
  auto cache = std::make_shared<std::map<int64_t, std::shared_ptr<Traced>>>();
  return [=](const Tensor& keep) {
    int64_t B = keep.shape()[0], T = keep.shape()[1];
    auto& t = (*cache)[B];
    if (!t) {
      t = std::make_shared<Traced>();
      Var ids = t->g.input("sample", {B, T}, sample.dtype());
      t->p = select(softmax(model(ids), -1), 1, target);
      t->plan = compile({t->p});
    }
    Tensor ids = Tensor::empty({B, T}, i64);
    std::vector<int64_t> original = sample.to_vector<int64_t>();
    for (int64_t b = 0; b < B; ++b)
      for (int64_t i = 0; i < T; ++i)
        ids.data<int64_t>()[b * T + i] = keep.data<uint8_t>()[b * T + i] ? original[size_t(i)] : removed;
    return t->plan.run({{"sample", ids.to(sample.dtype())}})[0].to_vector<double>();
  };
}

}  // namespace

Explanation explain(const ModelFn& model, const Tensor& sample, ExplainOptions o) {
  Explanation e;
  e.title = o.title;
  e.subtitle = o.subtitle;
  e.sample = sample;
  e.tokens = o.tokens;
  e.classes = o.classes;
  e.rules = o.rules.describe();
  bool tokens = !is_float(sample.dtype());
  if (!e.tokens.empty() && int64_t(e.tokens.size()) != sample.numel())
    throw ValueError("explain: " + std::to_string(e.tokens.size()) + " token texts for a sample of " +
                     std::to_string(sample.numel()));

  Graph g;
  Tensor batch = batched(sample);
  Var x = g.input("sample", batch.shape(), batch.dtype());
  Var y = model(x);
  if (y.rank() != 2 || y.shape()[0] != 1 || y.shape()[1] < 1)
    throw ShapeError("explain: the model must give scores (1, classes) for one sample, got " + y.shape().str());
  Feeds feeds{{"sample", batch}};
  e.scores = evaluate({y}, feeds)[0].to_vector<double>();
  for (size_t k = 0; k < e.scores.size(); ++k)  // -inf: a class that cannot be
    if (std::isnan(e.scores[k]) || e.scores[k] == std::numeric_limits<double>::infinity())
      throw NumericError("explain: the score of class " + std::to_string(k) + " is " +
                         (std::isnan(e.scores[k]) ? "NaN" : "infinite") + ": no class is predicted");
  if (*std::max_element(e.scores.begin(), e.scores.end()) == -std::numeric_limits<double>::infinity())
    throw NumericError("explain: every score is -infinity: no class is predicted");
  e.probabilities = softmax_of(e.scores);
  e.predicted = std::max_element(e.scores.begin(), e.scores.end()) - e.scores.begin();
  e.target = o.target < 0 ? e.predicted : o.target;
  if (e.target >= int64_t(e.scores.size()))
    throw ValueError("explain: class " + std::to_string(e.target) + " of a model with " +
                     std::to_string(e.scores.size()));

  Var start = seed(y, e.target, {.form = o.form});
  Ledger ledger(o.rules);
  Var r = ledger.relevance(y, x, start);
  // Gradient x input, on the embedded rows for token ids.
  Var logit = sum(select(y, 1, e.target)), product;
  if (!tokens) product = widened(x) * grad(logit, x);
  for (Var rows : tokens ? embedded(g, x) : std::vector<Var>{}) {
    Var part = sum(widened(rows) * grad(logit, rows), {-1});
    product = product.defined() ? product + part : part;
  }
  std::vector<Var> wanted{r};
  if (product.defined()) wanted.push_back(product);
  Results out = compile({wanted, ledger.outputs()}).run(feeds);
  e.ledger = ledger.read(out);
  e.relevance = {"relevance (" + o.rules.name() + ")", out[r].to_vector<double>(), {}};
  e.baseline.name = "gradient x input";
  if (product.defined()) e.baseline.relevance = out[product].to_vector<double>();

  if (tokens && o.removed_token >= 0 && sample.rank() == 1) {
    ScoreBatch score = token_scores(model, sample, e.target, o.removed_token);
    for (Method* m : {&e.relevance, &e.baseline})
      if (!m->relevance.empty()) m->curves = faithfulness(m->relevance, score, o.curves);
  }
  return e;
}

struct Explainer::Traced {
  TensorType type;  // of the batch
  Graph graph;
  Plan plan;
  explicit Traced(const GraphOptions& options) : graph(options) {}
};

Explainer::Explainer(ModelFn model, ExplainerOptions options) : model_(std::move(model)), options_(std::move(options)) {
  if (!model_) throw ValueError("Explainer: the model is an empty function");
}
Explainer::~Explainer() = default;

BatchExplanation Explainer::operator()(const Tensor& batch) {
  const TensorType type{batch.shape(), batch.dtype()};
  if (type.shape.rank() < 1) throw ShapeError("Explainer: a batch has its samples along the first axis, got a scalar");
  auto make = [&] {
    auto fresh = std::make_shared<Traced>(options_.graph);
    fresh->type = type;
    Graph& g = fresh->graph;
    Var x = g.input("samples", type.shape, type.dtype), y = model_(x);
    if (y.rank() != 2 || y.size(0) != type.shape[0] || y.size(1) < 1)
      throw ShapeError("Explainer: the model must give scores (" + std::to_string(type.shape[0]) +
                       ", classes) for its batch, got " + y.shape().str());
    Var predicted = argmax(y);
    const SeedOptions form{.form = options_.form};
    const bool several = !options_.classes.empty();
    Var start = several ? seeds_for_classes(y, options_.classes, form) : seed(y, predicted, form);
    Var r = whence::relevance(y, x, options_.rules, start, {.targets = int64_t(options_.classes.size())});
    fresh->plan = compile({y, predicted, r}, options_.compile);
    return fresh;
  };
  const auto traced = traced_.get([&](const Traced& t) { return t.type == type; }, make);
  Results out = traced->plan.run({{"samples", batch}});
  return {out[0], out[1], out[2]};
}

std::vector<Bar> absorbed_by_op(const LedgerReport& ledger, size_t most) {
  std::vector<Bar> bars;
  for (auto& [op, row] : ledger.by_op())
    if (std::fabs(row.all_absorbed()) > 1e-3 * std::fabs(ledger.seed)) bars.push_back({op, row.all_absorbed()});
  std::stable_sort(bars.begin(), bars.end(), [](auto& a, auto& b) { return std::fabs(a.value) > std::fabs(b.value); });
  if (bars.size() > most) bars.resize(most);
  return bars;
}

std::vector<Bar> absorbed_by_scope(const LedgerReport& ledger) {
  std::vector<Bar> bars;
  for (auto& [scope, row] : ledger.by_scope()) bars.push_back({scope.empty() ? "(top)" : scope, row.all_absorbed()});
  return bars;
}

void book(const LedgerReport& ledger, ReportSample& s) {
  s.seed = ledger.seed;
  s.inputs = ledger.leaves;
  s.residual = ledger.residual();
  for (auto& [category, v] : ledger.absorbed) s.absorbed.push_back({category, v});
}

// A sample of floats with a height and a width, its channels averaged.
static Picture as_picture(const Tensor& sample, const std::vector<double>& relevance) {
  Picture p;
  const Shape& s = sample.shape();
  const bool drawn =
      is_float(sample.dtype()) && (s.rank() == 2 || (s.rank() == 3 && s[0] <= 4)) && s[-1] > 1 && s[-2] > 1;
  if (!drawn) return p;
  p.height = s[-2], p.width = s[-1];
  const size_t size = size_t(p.height * p.width);
  const std::vector<double> values = sample.to_vector<double>();
  p.grey.assign(size, 0), p.relevance.assign(size, 0);
  for (size_t i = 0; i < values.size(); ++i) {
    p.grey[i % size] += values[i];
    p.relevance[i % size] += relevance[i];
  }
  return p;
}

std::string Explanation::html() const {
  Report page;
  page.title = title;
  page.subtitle = subtitle;
  page.method = rules;
  page.layers_caption = "Absorbed, by scope";
  page.ops_caption = "Absorbed, by operation";
  ReportSample s;
  auto name = [&](int64_t c) { return size_t(c) < classes.size() ? classes[size_t(c)] : "class " + std::to_string(c); };
  s.title = "explained: " + name(target);
  s.predicted = name(predicted);
  std::vector<int64_t> order = by_relevance(probabilities);
  for (size_t k = 0; k < std::min<size_t>(4, order.size()); ++k)
    s.probabilities.push_back({name(order[k]), probabilities[size_t(order[k])]});
  if (const Picture p = as_picture(sample, relevance.relevance); !p.grey.empty()) s.picture = p;
  else
    for (size_t i = 0; i < relevance.relevance.size(); ++i) {
      std::string text = i < tokens.size()          ? tokens[i]
                         : is_float(sample.dtype()) ? "\u25a0"
                                                    : std::to_string(sample.to(i64).item(int64_t(i))) + " ";
      s.pieces.push_back({text, relevance.relevance[i],
                          text + " at " + std::to_string(i) + ": " + std::to_string(relevance.relevance[i])});
    }
  s.layers = absorbed_by_scope(ledger);
  s.ops = absorbed_by_op(ledger, 10);
  book(ledger, s);
  page.samples.push_back(std::move(s));
  for (const Method* m : {&relevance, &baseline})
    if (!m->curves.morf.score.empty())
      page.curves.push_back({m->name, m->curves.morf, m->curves.lerf, m->curves.random});
  if (!page.curves.empty())
    page.curve_note =
        "Probability of the explained class while positions are replaced in the order of their relevance.";
  return whence::lrp::html(page);
}

std::string Explanation::json() const {
  using Json = nlohmann::ordered_json;
  Json j{{"title", title}, {"target", target}, {"predicted", predicted}, {"rules", rules}};
  j["classes"] = classes;
  j["scores"] = scores;
  j["probabilities"] = probabilities;
  j["shape"] = Ints(sample.shape().begin(), sample.shape().end());
  j["tokens"] = tokens;
  for (const Method* m : {&relevance, &baseline}) {
    Json one{{"relevance", m->relevance}};
    auto curve = [](const Curve& c) { return Json{{"fraction", c.fraction}, {"score", c.score}}; };
    if (!m->curves.morf.score.empty())
      one["curves"] = {{"morf", curve(m->curves.morf)},
                       {"lerf", curve(m->curves.lerf)},
                       {"random", curve(m->curves.random)},
                       {"insertion", curve(m->curves.insertion)}};
    j["methods"][m->name] = one;
  }
  auto rows = [](const std::map<std::string, LedgerRow>& groups) {
    Json list = Json::object();
    for (auto& [name, row] : groups)
      list[name] = {{"entered", row.entered}, {"left", row.left}, {"absorbed", row.absorbed}};
    return list;
  };
  j["ledger"] = {{"seed", ledger.seed},           {"inputs", ledger.leaves},
                 {"absorbed", ledger.absorbed},   {"residual", ledger.residual()},
                 {"by_op", rows(ledger.by_op())}, {"by_scope", rows(ledger.by_scope())}};
  return j.dump(1, ' ', false, Json::error_handler_t::replace);
}

std::string Explanation::csv() const {
  std::string s = "position,token,relevance,gradient_x_input\n";
  for (size_t i = 0; i < relevance.relevance.size(); ++i) {
    const std::string token = i < tokens.size()          ? tokens[i]
                              : is_float(sample.dtype()) ? ""
                                                         : std::to_string(sample.to(i64).item(int64_t(i)));
    const bool both = i < baseline.relevance.size();
    s += csv_row(
        std::vector<CsvField>{i, token, relevance.relevance[i], both ? CsvField(baseline.relevance[i]) : CsvField("")});
  }
  return s;
}

void Explanation::write_html(const std::string& path) const { write_file_atomically(path, html()); }
void Explanation::write_json(const std::string& path) const { write_file_atomically(path, json()); }
void Explanation::write_csv(const std::string& path) const { write_file_atomically(path, csv()); }
void Explanation::write_npy(const std::string& path) const {
  save_npy(path, Tensor::from(relevance.relevance, sample.shape()));
}

}  // namespace whence::lrp
