// lrp/*_seeds: every form of seed for scores (B, T, V) and one target class per sample, by its name:
// {onehot, logit, contrastive, contrastive_relevance}_{target, argmax}_{last, every_position}.
#include "tests/goldens/runner.h"
#include "whence/lrp/seed.h"

namespace whence::goldens {

void run_seeds(const File& file, DType dtype, double tolerance, Check& check) {
  Graph g;
  Var y = g.constant(file.tensor("input.logits", dtype)), target = g.constant(file.tensor("input.target", dtype));
  for (const auto& e : file.data.entries()) {
    if (!e.name.starts_with("seed.")) continue;
    std::string name = e.name.substr(5);
    lrp::SeedOptions o;
    if (name.starts_with("onehot")) o.form = lrp::SeedForm::one_hot;
    else if (name.starts_with("logit")) o.form = lrp::SeedForm::logit;
    else if (name.starts_with("contrastive_relevance")) o.form = lrp::SeedForm::contrastive_logit;
    else if (name.starts_with("contrastive")) o.form = lrp::SeedForm::contrastive;
    else throw OpsMissing("seed form " + name);
    if (name.ends_with("_last")) o.position = -1;
    Var s = name.find("argmax") != name.npos ? lrp::seed_argmax(y, o) : lrp::seed(y, target, o);
    check.compare(e.name, evaluate({s})[0], file.tensor(e.name, f64), tolerance);
  }
}

}  // namespace whence::goldens
