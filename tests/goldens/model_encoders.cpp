// BERT and its relatives.
#include "whence/models/distilbert.h"
#include "whence/models/esm.h"
#include "whence/models/modernbert.h"
#include "whence/models/roberta.h"
#include "tests/goldens/models.h"

namespace whence::goldens {

namespace {

models::BertInputs bert_inputs(const ModelInputs& in) {
  models::BertInputs b;
  b.token_types = in.token_types;
  b.mask = in.mask;
  return b;
}

// Any task head on `bert`.
template <class Model> GoldenModel bert_for(std::unique_ptr<Model> model, const File& file) {
  const bool regression = file.json("config").value("problem_type", Json()) == "regression";
  return golden(std::move(model), [regression](const Model& m, const ModelInputs& in) {
    ModelOutputs out;
    out.embeds = m.bert.embeddings.word(in.ids);
    out.hidden = m.bert.encode(m.bert.embeddings.embed(out.embeds, bert_inputs(in)), bert_inputs(in));
    out.last = out.hidden.back();
    out.logits = m.logits(out.last);
    if (m.bert.pooler) out.others["pooler_output"] = m.bert.pool(out.last);
    if (regression) out.loss = mse_loss(out.logits, reshape(in.labels, out.logits.shape()));
    return out;
  });
}

// Models whose encode() takes word vectors and a mask.
template <class Model, class Words> GoldenModel encoder(std::unique_ptr<Model> model, Words words) {
  return golden(std::move(model), [words](const Model& m, const ModelInputs& in) {
    ModelOutputs out;
    out.embeds = words(m)(in.ids);
    out.hidden = m.encode(out.embeds, in.mask);
    out.last = out.hidden.back();
    if constexpr (requires { m.logits(out.last, in.mask); }) out.logits = m.logits(out.last, in.mask);
    else out.logits = m.logits(out.last);
    return out;
  });
}

int64_t classes_of(const File& file) {
  return file.has("param.classifier.bias") ? file.data.entry("param.classifier.bias").shape[0] : 0;
}

}  // namespace

GoldenModel bert(const File& file) {
  auto c = models::BertConfig::from_json(file.meta("config"));
  const std::string& kind = file.meta("model_class");
  Json tied = file.json("tied");
  if (kind == "BertForSequenceClassification")
    return bert_for(std::make_unique<models::BertForSequenceClassification>(c, classes_of(file)), file);
  if (kind == "BertForTokenClassification")
    return bert_for(std::make_unique<models::BertForTokenClassification>(c, classes_of(file)), file);
  if (kind == "BertForMaskedLM")
    return bert_for(std::make_unique<models::BertForMaskedLM>(
                        c, tied.is_object() && tied.contains("cls.predictions.decoder.weight")),
                    file);
  throw OpsMissing("model " + kind);
}

GoldenModel roberta(const File& file) {
  auto c = models::BertConfig::from_json(file.meta("config"));
  return golden(std::make_unique<models::RobertaForMaskedLM>(c),
                [](const models::RobertaForMaskedLM& m, const ModelInputs& in) {
                  models::BertInputs inputs = bert_inputs(in);
                  inputs.positions = models::positions_after_padding(in.ids, m.roberta.config.padding_idx);
                  ModelOutputs out;
                  out.embeds = m.roberta.embeddings.word(in.ids);
                  out.hidden = m.roberta.encode(m.roberta.embeddings.embed(out.embeds, inputs), inputs);
                  out.last = out.hidden.back();
                  out.logits = m.logits(out.last);
                  return out;
                });
}

GoldenModel distilbert(const File& file) {
  auto c = models::DistilBertConfig::from_json(file.meta("config"));
  return encoder(std::make_unique<models::DistilBertForMaskedLM>(c),
                 [](const auto& m) -> const nn::Embedding& { return m.word; });
}

GoldenModel esm(const File& file) {
  auto c = models::EsmConfig::from_json(file.meta("config"));
  return encoder(std::make_unique<models::EsmForMaskedLM>(c),
                 [](const auto& m) -> const nn::Embedding& { return m.word; });
}

GoldenModel modernbert(const File& file) {
  auto c = models::ModernBertConfig::from_json(file.meta("config"));
  return encoder(std::make_unique<models::ModernBert>(c, classes_of(file)),
                 [](const auto& m) -> const nn::Embedding& { return m.tok_embeddings; });
}

}  // namespace whence::goldens
