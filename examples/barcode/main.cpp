// Barcodes from end to end: pretrain an encoder without labels, fine-tune a classifier, probe the embeddings, and
// explain single predictions down to the nucleotide.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <exception>

#include "demo.h"

using namespace barcode;

namespace {

void add_data(CLI::App* app, DataOptions& d) {
  app->add_option("--data", d.path, "FASTA (.fa, .fasta, also .gz) or table (.csv, .tsv, also .gz)")
      ->required()
      ->check(CLI::ExistingFile);
  app->add_option("--sequence-column", d.sequence_column, "tables: the column with the sequence");
  app->add_option("--primer", d.primer,
                  "start each sequence after the best match of this primer (IUPAC letters), leave out those without")
      ->capture_default_str();
  app->add_option("--begin", d.begin, "cut off letters before this position")->capture_default_str();
  app->add_option("--length", d.length, "use at most so many letters")->capture_default_str();
  app->add_option("--min-length", d.min_length, "leave out shorter sequences")->capture_default_str();
  app->add_flag("--validation", d.validation,
                "for choosing options: leave out the test side, test on a part of the training side");
}
void add_model(CLI::App* app, whence::models::BarcodeConfig& m) {
  app->add_option("--k", m.k, "letters per token")->capture_default_str()->check(CLI::Range(1, 8));
  app->add_option("--hidden", m.hidden, "width of the encoder")->capture_default_str();
  app->add_option("--layers", m.layers, "layers of the encoder")->capture_default_str();
  app->add_option("--heads", m.heads, "attention heads")->capture_default_str();
  app->add_flag("--overlapping,!--no-overlapping", m.overlapping, "tokens of k overlapping words instead of one")
      ->capture_default_str();
  app->add_option("--spectrum", m.spectrum,
                  "letters of the words whose frequencies pretraining predicts and a classifier reads beside the "
                  "encoder; 0: none")
      ->capture_default_str()
      ->check(CLI::Range(0, 8));
  app->add_option("--dropout", m.dropout, "dropout while training")->capture_default_str()->check(CLI::Range(0.0, 0.9));
}
template <class Options> void add_training(CLI::App* app, Options& o) {
  app->add_option("--out", o.out, "folder for checkpoints, metrics, curves and the model; a run found there goes on")
      ->capture_default_str();
  app->add_option("--epochs", o.epochs, "passes over the training sequences")->capture_default_str();
  app->add_option("--batch", o.batch, "sequences per step")->capture_default_str();
  app->add_option("--lr", o.lr, "peak learning rate (AdamW, one cycle)")->capture_default_str();
  app->add_option("--weight-decay", o.weight_decay, "decoupled weight decay, matrices only")->capture_default_str();
  app->add_flag("--shift", o.shift, "begin at a random letter of the first k: slower to learn, better with much data");
  app->add_option("--test-fraction", o.test_fraction, "share of the sequences kept for testing")->capture_default_str();
  app->add_option("--seed", o.seed, "split, initial weights, shuffling, masks, dropout")->capture_default_str();
  app->add_option("--precision", o.precision, "of products: f32, or bf16 (slow on a CPU: a test of truth)")
      ->capture_default_str()
      ->check(CLI::IsMember({"f32", "bf16"}));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Learn DNA barcodes, classify them, and see which nucleotides a prediction rests on."};
  app.require_subcommand(1);

  PretrainOptions pre;
  auto* p = app.add_subcommand("pretrain", "train an encoder without labels, by hiding half of the tokens");
  add_data(p, pre.data);
  add_model(p, pre.model);
  add_training(p, pre);
  p->add_option("--objective", pre.objective, "mae: encoder sees only visible tokens; mlm: BarcodeBERT")
      ->capture_default_str();
  p->add_flag("--predict-seen", pre.predict_seen,
              "mae: the loss counts visible tokens too, so that the encoder keeps what each token says");
  p->add_option("--mask", pre.mask, "share of tokens to hide")->capture_default_str()->check(CLI::Range(0.05, 0.95));
  p->add_option("--label", pre.label, "leave out the test side of this label's split");
  p->add_option("--min-count", pre.min_count, "of that split, as given to finetune")->capture_default_str();
  p->callback([&] {
    pre.model.max_tokens = pre.data.length / pre.model.k;
    pretrain(pre);
  });

  FinetuneOptions fine;
  auto* f = app.add_subcommand("finetune", "train a classifier, from a pretrained encoder or from scratch");
  add_data(f, fine.data);
  add_model(f, fine.model);
  add_training(f, fine);
  f->add_option("--encoder", fine.encoder, "encoder.safetensors of pretrain")->check(CLI::ExistingFile);
  f->add_option("--label", fine.label,
                "label column: a table's column, a rank of a lineage header, or field1, field2, ...")
      ->capture_default_str();
  f->add_option("--min-count", fine.min_count, "leave out classes with fewer distinct sequences")
      ->capture_default_str();
  f->add_flag(
      "--memory", fine.memory,
      "with a spectrum: the classifier remembers the training sequences and adds how near those of a class are");
  f->add_option("--label-smoothing", fine.label_smoothing, "of the cross entropy")->capture_default_str();
  f->callback([&] {
    fine.model.max_tokens = fine.data.length / fine.model.k;
    finetune(fine);
  });

  ProbeOptions pro;
  auto* q = app.add_subcommand("probe", "1-NN on mean-pooled embeddings, against k-mer counts and a random encoder");
  add_data(q, pro.data);
  add_model(q, pro.model);
  q->add_option("--encoder", pro.encoder, "encoder.safetensors of pretrain")->check(CLI::ExistingFile);
  q->add_option("--label", pro.label, "label column")->capture_default_str();
  q->add_option("--hold-out", pro.hold_out, "column whose equals do not count as neighbours; empty for none")
      ->capture_default_str();
  q->add_option("--baseline-k", pro.k, "word length of the k-mer baseline")->capture_default_str();
  q->add_option("--seed", pro.seed, "of the random encoder")->capture_default_str();
  q->callback([&] {
    pro.model.max_tokens = pro.data.length / pro.model.k;
    print(probe(pro), pro);
  });

  ExplainOptions ex;
  auto* e = app.add_subcommand("explain", "one HTML page: which nucleotides single predictions rest on");
  add_data(e, ex.data);
  e->add_option("--model", ex.model, "classifier.safetensors of finetune")->required()->check(CLI::ExistingFile);
  e->add_option("--label", ex.label, "label column, for the test side and the true classes")->capture_default_str();
  e->add_option("--min-count", ex.min_count, "as given to finetune")->capture_default_str();
  e->add_option("--test-fraction", ex.test_fraction, "as given to finetune")->capture_default_str();
  e->add_option("--seed", ex.seed, "as given to finetune")->capture_default_str();
  e->add_option("--rules", ex.rules, "attn, cp, dynamic or epsilon")->capture_default_str();
  e->add_option("--count", ex.count, "test barcodes on the page")->capture_default_str();
  e->add_option("--evaluate", ex.evaluate, "test barcodes for the deletion curves; 0 leaves them out")
      ->capture_default_str();
  e->add_option("--out", ex.out, "the page")->capture_default_str();
  e->callback([&] { explain(ex); });

  DemoOptions all;
  all.model.overlapping = true;
  all.model.spectrum = 5;
  auto* d = app.add_subcommand("demo", "pretrain, finetune, probe and explain in one go, with one table");
  add_data(d, all.data);
  add_model(d, all.model);
  d->add_option("--label", all.label, "label column")->capture_default_str();
  d->add_option("--hold-out", all.hold_out, "column whose equals do not count as neighbours")->capture_default_str();
  d->add_option("--pretrain-epochs", all.pretrain_epochs)->capture_default_str();
  d->add_option("--finetune-epochs", all.finetune_epochs)->capture_default_str();
  d->add_option("--seed", all.seed)->capture_default_str();
  d->add_option("--precision", all.precision, "of products: f32, or bf16 (slow on a CPU: a test of truth)")
      ->capture_default_str()
      ->check(CLI::IsMember({"f32", "bf16"}));
  d->add_option("--out", all.out, "folder for everything; a run found there goes on")->capture_default_str();
  d->callback([&] {
    all.model.max_tokens = all.data.length / all.model.k;
    demo(all);
  });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
  return 0;
}
