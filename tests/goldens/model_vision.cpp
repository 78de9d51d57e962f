// Models of images.
#include "whence/models/convnext.h"
#include "whence/models/resnet.h"
#include "whence/models/swin.h"
#include "whence/models/vit_mae.h"
#include "tests/goldens/models.h"

namespace whence::goldens {

namespace {

int64_t classes_of(const File& file, const char* bias) { return file.data.entry(bias).shape[0]; }

ModelOutputs run_vit(const models::VitModel& m, Var pixels) {
  ModelOutputs out;
  out.embeds = m.patches(pixels);
  out.hidden = m.encode(m.placed(out.embeds));
  out.last = m.layernorm(out.hidden.back());
  return out;
}

// Models that pool over space.
template <class Model> ModelOutputs run_stages(const Model& m, const ModelInputs& in) {
  ModelOutputs out;
  out.hidden = m.encode(in.pixels);
  out.last = out.hidden.back();
  Var pooled = out.others["pooler_output"] = m.pooled(out.last);
  out.logits = m.classifier(pooled);
  return out;
}

}  // namespace

GoldenModel vit(const File& file) {
  auto c = models::VitConfig::from_json(file.meta("config"));
  return golden(std::make_unique<models::Vit>(c, classes_of(file, "param.classifier.bias")),
                [](const models::Vit& m, const ModelInputs& in) {
                  ModelOutputs out = run_vit(m.vit, in.pixels);
                  out.logits = m.logits(out.last);
                  return out;
                });
}

GoldenModel deit_with_teacher(const File& file) {
  auto c = models::VitConfig::from_json(file.meta("config"));
  return golden(std::make_unique<models::DeitWithTeacher>(c, classes_of(file, "param.cls_classifier.bias")),
                [](const models::DeitWithTeacher& m, const ModelInputs& in) {
                  ModelOutputs out = run_vit(m.deit, in.pixels);
                  auto logits = m.logits(out.last);
                  out.logits = logits.mean;
                  out.others = {{"cls_logits", logits.of_class}, {"distillation_logits", logits.of_distillation}};
                  return out;
                });
}

GoldenModel vit_mae(const File& file) {
  return golden(std::make_unique<models::VitMae>(models::VitMaeConfig::from_json(file.meta("config"))),
                [](const models::VitMae& m, const ModelInputs& in) {
                  auto hiding = m.hide(in.noise);
                  ModelOutputs out;
                  out.embeds = m.vit.patches(in.pixels);
                  out.hidden = m.encode(m.vit.placed(out.embeds), hiding);
                  out.last = m.vit.layernorm(out.hidden.back());
                  out.logits = m.decode(out.last, hiding);
                  out.loss = m.loss(in.pixels, out.logits, hiding);
                  out.others = {{"mask", cast(hiding.hidden, in.pixels.dtype())}, {"ids_restore", hiding.restore}};
                  return out;
                });
}

GoldenModel swin(const File& file) {
  auto c = models::SwinConfig::from_json(file.meta("config"));
  return golden(std::make_unique<models::Swin>(c, classes_of(file, "param.classifier.bias")),
                [](const models::Swin& m, const ModelInputs& in) {
                  ModelOutputs out = run_stages(m, in);
                  out.last = m.layernorm(out.last);
                  return out;
                });
}

GoldenModel resnet(const File& file) {
  auto c = models::ResNetConfig::from_json(file.meta("config"));
  return golden(std::make_unique<models::ResNet>(c, classes_of(file, "param.classifier.1.bias")),
                run_stages<models::ResNet>);
}

GoldenModel convnext(const File& file) {
  auto c = models::ConvNextConfig::from_json(file.meta("config"));
  return golden(std::make_unique<models::ConvNext>(c, classes_of(file, "param.classifier.bias")),
                run_stages<models::ConvNext>);
}

}  // namespace whence::goldens
