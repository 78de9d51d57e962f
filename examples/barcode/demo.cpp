#include "demo.h"

#include <fmt/format.h>

#include <chrono>

#include "whence/nn/progress.h"

namespace barcode {

void demo(const DemoOptions& o) {
  auto start = std::chrono::steady_clock::now();
  PretrainOptions pre{.data = o.data,
                      .model = o.model,
                      .out = o.out + "/pretrain",
                      .label = o.label,
                      .epochs = o.pretrain_epochs,
                      .batch = 16,
                      .lr = 2e-3,
                      .mask = 0.15,  // most is seen: the mean of what is left is the embedding that the probe measures
                      .predict_seen = true,
                      .seed = o.seed,
                      .precision = o.precision};
  pre.model.dropout = 0;  // few sequences, few steps: small batches and no dropout learn the most in minutes
  pre.model.decoder_layers = 1;
  pretrain(pre);
  std::string encoder = pre.out + "/encoder.safetensors";
  FinetuneOptions fine{.data = o.data,
                       .model = o.model,
                       .encoder = encoder,
                       .label = o.label,
                       .out = o.out + "/finetune",
                       .epochs = o.finetune_epochs,
                       .batch = 16,
                       .lr = 2e-3,
                       .memory = true,
                       .seed = o.seed,
                       .precision = o.precision};
  fine.model.dropout = 0;
  FinetuneResult tuned = finetune(fine);
  ProbeOptions pro{
      .data = o.data, .encoder = encoder, .label = o.label, .hold_out = o.hold_out, .model = o.model, .seed = o.seed};
  std::vector<ProbeRow> rows = probe(pro);
  ExplainOptions ex{.data = o.data,
                    .model = fine.out + "/classifier.safetensors",
                    .label = o.label,
                    .out = o.out + "/why.html",
                    .seed = o.seed};
  ExplainResult why = explain(ex);

  auto cell = [](double v) { return v > 0 ? fmt::format("{:.1f} %", 100 * v) : std::string("-"); };
  fmt::print("\n{} of {} classes; {} training and {} test sequences, split by unique sequence\n\n", o.label,
             tuned.classes, tuned.train, tuned.test);
  fmt::print("  {:<28} {:>14} {:>18} {:>12}\n", "", "1-NN, leave", o.hold_out.empty() ? "" : "1-NN, " + o.hold_out,
             "test side");
  fmt::print("  {:<28} {:>14} {:>18} {:>12}\n  {}\n", "", "one out", o.hold_out.empty() ? "" : "held out", "accuracy",
             std::string(75, '-'));
  for (size_t i = 0; i < rows.size(); ++i)
    fmt::print("  {:<28} {:>14} {:>18} {:>12}\n", rows[i].name, cell(rows[i].leave_one_out), cell(rows[i].held_out),
               i == 0 ? cell(tuned.baseline) : "-");
  fmt::print("  {:<28} {:>14} {:>18} {:>12}\n\n", "classifier, fine-tuned", "-", "-", cell(tuned.accuracy));
  fmt::print("  explanations: area between deletion curves {:.3f} (gradient x input {:.3f}); {}\n", why.area,
             why.baseline_area, ex.out);
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  fmt::print("  took {}\n", whence::format_duration(seconds));
}

}  // namespace barcode
