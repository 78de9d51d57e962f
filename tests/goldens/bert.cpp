// hf_encoder: encoders of the BERT family, built by the library's model code from the file's configuration.
#include <cmath>

#include "whence/models/bert.h"
#include "tests/goldens/runner.h"

namespace whence::goldens {

namespace {

models::BertConfig configuration(const Json& j) {
  models::BertConfig c;
  auto integer = [&](const char* key, int64_t otherwise) {
    return j.contains(key) && j.at(key).is_number() ? j.at(key).get<int64_t>() : otherwise;
  };
  c.vocab_size = integer("vocab_size", c.vocab_size);
  c.hidden_size = integer("hidden_size", c.hidden_size);
  c.layers = integer("num_hidden_layers", c.layers);
  c.heads = integer("num_attention_heads", c.heads);
  c.intermediate_size = integer("intermediate_size", c.intermediate_size);
  c.max_positions = integer("max_position_embeddings", c.max_positions);
  c.type_vocab_size = integer("type_vocab_size", c.type_vocab_size);
  c.activation = j.value("hidden_act", "gelu");
  c.layer_norm_eps = j.value("layer_norm_eps", 1e-12);
  c.dropout = 0;
  c.padding_idx = integer("pad_token_id", -1);
  return c;
}

double largest(const Tensor& t) {
  double m = 0;
  for (double v : t.to_vector<double>()) m = std::max(m, std::fabs(v));
  return m;
}

}  // namespace

void run_bert(const File& file, DType dtype, Check& check) {
  Json config = file.json("config");
  std::string kind = file.meta("model_class");
  if (!config.is_object() || config.value("model_type", "") != "bert" || !kind.starts_with("BertFor"))
    throw OpsMissing("model " + file.meta("case"));
  models::BertConfig c = configuration(config);
  Json tied = file.json("tied");
  int64_t classes = file.has("param.classifier.bias") ? file.data.entry("param.classifier.bias").shape[0] : 0;

  std::unique_ptr<nn::Module> model;
  const models::BertModel* bert = nullptr;
  std::function<Var(Var)> logits;
  if (kind == "BertForMaskedLM") {
    auto m = std::make_unique<models::BertForMaskedLM>(
        c, tied.is_object() && tied.contains("cls.predictions.decoder.weight"));
    bert = &m->bert;
    logits = [p = m.get()](Var h) { return p->logits(h); };
    model = std::move(m);
  } else if (kind == "BertForSequenceClassification") {
    auto m = std::make_unique<models::BertForSequenceClassification>(c, classes);
    bert = &m->bert;
    logits = [p = m.get()](Var h) { return p->logits(h); };
    model = std::move(m);
  } else if (kind == "BertForTokenClassification") {
    auto m = std::make_unique<models::BertForTokenClassification>(c, classes);
    bert = &m->bert;
    logits = [p = m.get()](Var h) { return p->logits(h); };
    model = std::move(m);
  } else throw OpsMissing("model " + file.meta("case"));
  model->init(0, dtype);
  std::map<std::string, Tensor> state;
  for (const auto& e : file.data.entries())
    if (e.name.starts_with("param.")) state[e.name.substr(6)] = file.tensor(e.name, dtype);
  models::load_huggingface(*model, state);

  Graph g;
  std::vector<std::pair<std::string, Tensor>> held;
  auto input = [&](const std::string& name, bool carries = false) {
    Tensor t = file.tensor("input." + name, dtype);
    held.emplace_back(name, t);
    return g.input(name, t.shape(), t.dtype(), {.carries = carries});
  };
  Var ids = input("input_ids", true);
  models::BertInputs in;
  if (file.has("input.token_type_ids")) in.token_types = input("token_type_ids");
  if (file.has("input.attention_mask")) {
    Tensor m = file.tensor("input.attention_mask", dtype).to(u8);
    in.mask = g.constant(m);
  }
  Var words = bert->embeddings.word(ids);
  std::vector<Var> hidden = bert->encode(bert->embeddings.embed(words, in), in);
  Var y = logits(hidden.back()), loss;
  if (file.has("input.target")) loss = sum(pick(y, input("target")));
  else if (config.value("problem_type", Json()) == "regression")
    loss = mse_loss(y, reshape(input("labels"), y.shape()));
  else loss = cross_entropy(y, input("labels"));

  struct Wanted {
    std::string key;
    Var v;
    double scale;
  };
  std::vector<Wanted> wanted{{"output.logits", y, -1}, {"loss", loss, -1}};
  for (size_t i = 0; i < hidden.size(); ++i)
    wanted.push_back({"output.hidden_states." + std::to_string(i), hidden[i], -1});
  wanted.push_back({"output.last_hidden_state", hidden.back(), -1});
  wanted.push_back({"output.inputs_embeds", words, -1});
  if (file.has("output.pooler_output")) wanted.push_back({"output.pooler_output", bert->pool(hidden.back()), -1});
  std::vector<Var> wrt{words};
  std::vector<std::string> keys{"grad.inputs_embeds"};
  double scale = 0;
  for (nn::Parameter* p : model->parameters()) {
    std::string key = "grad." + p->name();
    if (!file.has(key)) continue;
    wrt.push_back(p->in(g));
    keys.push_back(key);
    scale = std::max(scale, largest(file.tensor(key, f64)));
  }
  std::vector<Var> d = grad(loss, wrt);
  for (size_t i = 0; i < d.size(); ++i) wanted.push_back({keys[i], d[i], i ? scale : -1});
  if (file.has("output.gradxinput_embeds")) wanted.push_back({"output.gradxinput_embeds", words * d[0], -1});
  if (file.has("output.relevance_tokens")) wanted.push_back({"output.relevance_tokens", sum(words * d[0], {-1}), -1});

  std::vector<Var> vars;
  std::vector<Wanted> present;
  for (const Wanted& w : wanted)
    if (file.has(w.key)) {
      present.push_back(w);
      vars.push_back(w.v);
    }
  Feeds feeds;
  for (const auto& [n, t] : held) feeds.emplace_back(n, t);
  Results r = compile(vars).run(feeds);
  double tolerance = 1e-6;  // stored in f32
  if (dtype == f32) {
    double worst = 0;
    Json deviations = file.json("f32_rel_dev");
    for (const auto& [name, v] : deviations.items()) worst = std::max(worst, v.get<double>());
    tolerance = std::max(1e-4, 10 * worst);
  }
  for (size_t i = 0; i < present.size(); ++i) {
    Tensor want = file.tensor(present[i].key, f64);
    check.compare(present[i].key, r[i].shape() == want.shape() ? r[i] : r[i].reshaped(want.shape()), want, tolerance,
                  present[i].scale);
  }
}

}  // namespace whence::goldens
