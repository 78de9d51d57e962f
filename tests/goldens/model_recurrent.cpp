// Mamba, Mamba 2 and xLSTM.
#include "whence/models/mamba.h"
#include "whence/models/xlstm.h"
#include "whence/models/xlstm_large.h"
#include "tests/goldens/models.h"

namespace whence::goldens {

GoldenModel mamba(const File& file) {
  auto c = models::MambaConfig::from_json(file.meta("config"));
  c.tied = tied(file, "lm_head.weight");
  return golden(std::make_unique<models::Mamba>(c), [](const models::Mamba& m, const ModelInputs& in) {
    ModelOutputs out;
    out.embeds = m.embeddings(in.ids);
    out.hidden = m.encode(out.embeds);
    out.last = out.hidden.back();
    out.logits = m.logits(out.last);
    return out;
  });
}

// The configuration is the package's in short; shapes tell the rest.
GoldenModel xlstm(const File& file) {
  Json json = file.json("config");
  models::XlstmConfig c;
  c.vocab_size = json.at("vocab").get<int64_t>();
  c.hidden_size = json.at("d").get<int64_t>();
  c.slstm.clear();
  for (char kind : json.at("blocks").get<std::string>()) c.slstm.push_back(kind == 's');
  c.inner_size = json.at("inner").get<int64_t>();
  c.mlstm_heads = json.at("m_heads").get<int64_t>();
  c.slstm_heads = json.at("s_heads").get<int64_t>();
  c.projection_block = json.at("qkv_block").get<int64_t>();
  c.conv_width = json.at("conv").get<int64_t>();
  c.feed_forward_size = json.at("ffn").get<int64_t>();
  if (!json.contains("optimizer")) c.eps = json.value("eps", c.eps);  // else `eps` is the optimiser's
  return golden(std::make_unique<models::Xlstm>(c), [](const models::Xlstm& m, const ModelInputs& in) {
    ModelOutputs out;
    out.embeds = m.token_embedding(in.ids);
    out.hidden = m.encode(out.embeds);
    out.last = m.post_blocks_norm(out.hidden.back());
    out.logits = m.lm_head(out.last);
    return out;
  });
}

GoldenModel xlstm_large(const File& file) {
  auto c = models::XlstmLargeConfig::from_json(file.meta("config"));
  Json json = file.json("config");
  if (json.contains("ffn")) {  // files of formulas: one chunk
    c.feed_forward_size = json.at("ffn").get<int64_t>();
    c.chunk_size = 0;
  }
  c.tied = tied(file, "lm_head.weight");
  return golden(std::make_unique<models::XlstmLarge>(c), [](const models::XlstmLarge& m, const ModelInputs& in) {
    ModelOutputs out;
    out.embeds = m.embeddings(in.ids);
    out.hidden = m.encode(out.embeds);
    out.last = out.hidden.back();
    out.logits = m.logits(out.last);
    return out;
  });
}

}  // namespace whence::goldens
