#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "whence/nn/data/fasta.h"
#include "whence/nn/data/kmer_knn.h"
#include "whence/nn/data/random_stream.h"
#include "whence/nn/data/split.h"
#include "whence/nn/data/taxonomy.h"
#include "tests/nn/io_test_util.h"

namespace whence {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using namespace whence::testing;

// ---- splits -----------------------------------------------------------------------------------------------------

TEST(Split, NumbersValuesInOrderOfFirstOccurrence) {
  std::vector<std::string> v = {"b", "a", "b", "c", "a"};
  EXPECT_THAT(number_values(v), ElementsAre(0, 1, 0, 2, 1));
  EXPECT_THAT(distinct_values(v), ElementsAre("b", "a", "c"));
}

struct Made {
  std::vector<int64_t> labels, groups;
};
Made made(int64_t n) {  // 10 labels of uneven size; groups of 1 to 6 within a label
  Made m;
  RandomStream r(77);
  int64_t group = 0;
  while (int64_t(m.labels.size()) < n) {
    int64_t label = std::min(r.below(10), r.below(10)), size = 1 + r.below(6);
    for (int64_t i = 0; i < size; ++i) {
      m.labels.push_back(label);
      m.groups.push_back(group);
    }
    ++group;
  }
  return m;
}

void expect_partition(const Split& s, size_t n) {
  std::vector<int64_t> all = s.train;
  all.insert(all.end(), s.test.begin(), s.test.end());
  std::sort(all.begin(), all.end());
  ASSERT_EQ(all.size(), n);
  for (size_t i = 0; i < n; ++i) ASSERT_EQ(all[i], int64_t(i));
  EXPECT_TRUE(std::is_sorted(s.train.begin(), s.train.end()));
  EXPECT_TRUE(std::is_sorted(s.test.begin(), s.test.end()));
}

void expect_no_straddling(const Split& s, const std::vector<int64_t>& groups) {
  std::set<int64_t> in_train;
  for (int64_t i : s.train) in_train.insert(groups[size_t(i)]);
  for (int64_t i : s.test)
    ASSERT_EQ(in_train.count(groups[size_t(i)]), 0u) << "group " << groups[size_t(i)] << " is on both sides";
}

TEST(Split, GroupsStayTogetherAndTheFractionHolds) {
  Made m = made(2000);
  for (double fraction : {0.0, 0.1, 0.5, 1.0}) {
    Split s = split_groups(m.groups, {.test_fraction = fraction, .seed = 1});
    expect_partition(s, m.groups.size());
    expect_no_straddling(s, m.groups);
    EXPECT_NEAR(double(s.test.size()), fraction * double(m.groups.size()), 3);
  }
  EXPECT_EQ(split_groups(m.groups, {.seed = 5}).test, split_groups(m.groups, {.seed = 5}).test);
  EXPECT_NE(split_groups(m.groups, {.seed = 5}).test, split_groups(m.groups, {.seed = 6}).test);
  EXPECT_THROW(split_groups(m.groups, {.test_fraction = 1.5}), ValueError);
  EXPECT_THAT(split_groups({}).test, IsEmpty());
}

TEST(Split, StratifiedKeepsEveryLabelsShare) {
  Made m = made(3000);
  Split s = split_stratified(m.labels, m.groups, {.test_fraction = 0.25, .seed = 3});
  expect_partition(s, m.labels.size());
  expect_no_straddling(s, m.groups);
  std::map<int64_t, double> all, test;
  for (int64_t l : m.labels) ++all[l];
  for (int64_t i : s.test) ++test[m.labels[size_t(i)]];
  for (auto& [label, n] : all) EXPECT_NEAR(test[label], 0.25 * n, 3.5) << "label " << label;
  // One group only: stays in training, whatever the fraction.
  std::vector<int64_t> labels = {0, 0, 1, 1}, groups = {0, 0, 1, 2};
  for (uint64_t seed = 0; seed < 8; ++seed) {
    Split t = split_stratified(labels, groups, {.test_fraction = 0.5, .seed = seed});
    EXPECT_EQ(t.test.size(), 1u);
    EXPECT_GE(t.test[0], 2);
  }
  EXPECT_THROW(split_stratified(labels, {}), ValueError);
}

TEST(Split, HoldsOutWholeFamilies) {
  std::vector<int64_t> family = {4, 7, 4, 9, 7, 1};
  Split s = hold_out(family, std::vector<int64_t>{7, 1});
  EXPECT_THAT(s.test, ElementsAre(1, 4, 5));
  EXPECT_THAT(s.train, ElementsAre(0, 2, 3));
  Made m = made(2000);
  Split r = hold_out_random(m.groups, {.test_fraction = 0.3, .seed = 2});
  expect_partition(r, m.groups.size());
  expect_no_straddling(r, m.groups);
  std::set<int64_t> all(m.groups.begin(), m.groups.end()), held;
  for (int64_t i : r.test) held.insert(m.groups[size_t(i)]);
  EXPECT_NEAR(double(held.size()), 0.3 * double(all.size()), 1);
}

// ---- nearest neighbours -----------------------------------------------------------------------------------------

TEST(KmerKnn, ProfilesByHand) {
  // k = 2: AC CG GA | N breaks | AA; lower case breaks too.
  std::vector<std::string> s = {"ACGANAA", "AAAA", "ANA", "acgt"};
  Tensor p = kmer_profiles(s, 2);
  EXPECT_EQ(p.shape(), (Shape{4, 16}));
  auto at = [&](int row, int a, int b) { return p.item(row * 16 + a * 4 + b); };
  for (auto [a, b] : {std::pair(0, 1), {1, 2}, {2, 0}, {0, 0}}) EXPECT_FLOAT_EQ(float(at(0, a, b)), 0.5f);
  EXPECT_FLOAT_EQ(float(at(1, 0, 0)), 1);
  double rest = 0;
  for (int i = 32; i < 64; ++i) rest += p.item(i);
  EXPECT_EQ(rest, 0);
  EXPECT_THROW(kmer_profiles(s, 9), ValueError);
  EXPECT_THROW(kmer_profiles(s, 0), ValueError);
}

TEST(KmerSpectra, RootsOfFrequenciesAndScoresBackOnLetters) {
  std::vector<std::string> s{"AAAAAC", "NN"};
  Tensor p = kmer_spectra(s, 2);  // AA four times, AC once
  EXPECT_NEAR(p.item(0), std::sqrt(0.8), 1e-6);
  EXPECT_NEAR(p.item(1), std::sqrt(0.2), 1e-6);
  EXPECT_EQ(p.item(16), 0);  // nothing counted
  EXPECT_THROW(kmer_spectra(s, 9), ValueError);

  std::vector<float> per_word(16);
  per_word[0] = 8, per_word[1] = 2, per_word[5] = 9;  // CC does not occur
  const std::vector<double> letters = spread_words("AAAAAC", per_word, 2);
  EXPECT_EQ(letters, (std::vector<double>{1, 2, 2, 2, 2, 1}));  // AA: 2 at each of its places; AC: 2 at its one
  EXPECT_THROW(spread_words("AC", std::vector<float>(4), 2), ShapeError);
}

TEST(KmerKnn, EqualsThePlainLoopAtEverySize) {
  RandomStream r(1);
  for (auto [n, m, d] : {std::array<int64_t, 3>{1, 1, 1},
                         {5, 63, 7},
                         {4, 64, 256},
                         {33, 65, 257},
                         {70, 130, 300},
                         {3, 0, 5},
                         {0, 3, 5}}) {
    Tensor q = Tensor::empty({n, d}), x = Tensor::empty({m, d});
    std::vector<int64_t> qg(size_t(n), 0), xg(size_t(m), 0);
    for (int64_t i = 0; i < n * d; ++i) q.data<float>()[i] = float(r.uniform(-1, 1));
    for (int64_t i = 0; i < m * d; ++i) x.data<float>()[i] = float(r.uniform(-1, 1));
    for (auto& g : qg) g = r.below(4) - 1;
    for (auto& g : xg) g = r.below(4) - 1;
    for (bool grouped : {false, true}) {
      auto got = grouped ? nearest_neighbours(q, x, qg, xg) : nearest_neighbours(q, x);
      ASSERT_EQ(int64_t(got.size()), n);
      for (int64_t i = 0; i < n; ++i) {
        int64_t best = -1;
        double score = 0;
        for (int64_t j = 0; j < m; ++j) {
          if (grouped && qg[size_t(i)] >= 0 && qg[size_t(i)] == xg[size_t(j)]) continue;
          double dot = 0;
          for (int64_t k = 0; k < d; ++k)
            dot += double(q.data<float>()[i * d + k]) * double(x.data<float>()[j * d + k]);
          if (best < 0 || dot > score) best = j, score = dot;
        }
        ASSERT_EQ(got[size_t(i)].index, best) << n << " " << m << " " << d << " row " << i;
        ASSERT_NEAR(got[size_t(i)].similarity, score, 1e-4);
      }
    }
  }
}

TEST(KmerKnn, GroupsTiesAndAccuracy) {
  Tensor x = Tensor::from(std::vector<float>{1, 0, 1, 0, 0, 1, 0.6f, 0.8f}, {4, 2});
  std::vector<int64_t> family = {0, 0, 1, 1}, genus = {0, 0, 1, 2};
  auto other = nearest_other(x);
  EXPECT_EQ(other[0].index, 1);
  EXPECT_EQ(other[1].index, 0);
  EXPECT_EQ(other[2].index, 3);
  EXPECT_EQ(other[3].index, 2);
  auto a = neighbour_accuracy(other, family, family);
  EXPECT_EQ(a.right, 4);
  EXPECT_EQ(a.counted, 4);
  auto held = nearest_other(x, genus);
  EXPECT_EQ(held[0].index, 3);
  auto h = neighbour_accuracy(held, family, family, genus, genus);
  EXPECT_EQ(h.counted, 2);  // family 0 has no second genus: its rows cannot be right
  EXPECT_EQ(h.right, 2);
  std::vector<int64_t> unknown = {-1, 0, 1, 1};
  EXPECT_EQ(neighbour_accuracy(other, unknown, unknown).counted, 3);
  EXPECT_EQ(nearest_other(Tensor::zeros({1, 2}))[0].index, -1);
  EXPECT_EQ(nearest_neighbours(x, x).at(1).index, 0);  // equal rows: the lowest index
  EXPECT_THROW(nearest_neighbours(x, Tensor::zeros({2, 3})), ShapeError);
  EXPECT_THROW(nearest_neighbours(x.to(f64), x), DTypeError);
  EXPECT_THROW(nearest_neighbours(x, x, family), ValueError);
}

// A product that is NaN never wins, wherever it stands among the references; nothing but NaN is no neighbour.
TEST(KmerKnn, NaNIsNobodysNeighbour) {
  const float nan = std::nanf(""), inf = HUGE_VALF;
  const std::vector<std::vector<float>> rows = {{nan, 1}, {-1, -2}, {inf, -inf}, {1, 1}, {nan, nan}};
  std::vector<size_t> order = {0, 1, 2, 3, 4};
  do {
    std::vector<float> flat;
    for (size_t r : order) flat.insert(flat.end(), rows[r].begin(), rows[r].end());
    Tensor x = Tensor::from(flat, {5, 2});
    auto got = nearest_neighbours(Tensor::from<float>({1, 1, -1, -1, nan, 0}, {3, 2}), x);
    EXPECT_EQ(order[size_t(got[0].index)], 3u);
    EXPECT_EQ(got[0].similarity, 2);
    EXPECT_EQ(order[size_t(got[1].index)], 1u);
    EXPECT_EQ(got[1].similarity, 3);
    EXPECT_EQ(got[2].index, -1);
  } while (std::next_permutation(order.begin(), order.end()));
  auto negative =
      nearest_neighbours(Tensor::from<float>({1, 0}, {1, 2}), Tensor::from<float>({nan, 0, -5, 0, -7, 0}, {3, 2}));
  EXPECT_EQ(negative[0].index, 1);
  EXPECT_EQ(nearest_other(Tensor::full({3, 2}, nan))[1].index, -1);
  Accuracy a = neighbour_accuracy(nearest_other(Tensor::full({2, 2}, nan)), std::vector<int64_t>{4, 4},
                                  std::vector<int64_t>{4, 4});
  EXPECT_EQ(a.right, 0);
  EXPECT_EQ(a.counted, 2);
  EXPECT_THROW(neighbour_accuracy(std::vector<Neighbour>{{7, 1}}, std::vector<int64_t>{0}, std::vector<int64_t>{0}),
               ValueError);
}

// 16S genes, nucleotides 100 to 760. The numbers were first measured with another program.
TEST(KmerKnn, SixteenSBaselineWhereTheDataAre) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "minutes under a sanitizer, and the plain loops are covered above";
#endif
  std::string path = "/usr/share/microbiomeutil-data/RESOURCES/rRNA16S.gold.fasta";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path << " (package microbiomeutil-data)";
  std::vector<std::string> sequences, families, genera;
  for (const auto& r : read_fasta(path)) {
    Lineage l = parse_lineage_header(r.header);
    sequences.push_back(r.sequence.substr(100, 660));
    families.push_back(l.family());
    genera.push_back(l.genus());
  }
  ASSERT_EQ(sequences.size(), 5181u);
  auto family = number_values(families), genus = number_values(genera);
  std::vector<int64_t> self(sequences.size());
  for (size_t i = 0; i < self.size(); ++i) self[i] = int64_t(i);
  std::map<int64_t, int> size;
  for (int64_t f : family) ++size[f];
  std::vector<int64_t> large = family;
  for (int64_t& f : large) f = size[f] >= 5 ? f : -1;

  Tensor p = kmer_profiles(sequences, 5);
  auto other = nearest_other(p);
  Accuracy all = neighbour_accuracy(other, family, family, self, self),
           five = neighbour_accuracy(other, large, family, self, self);
  Accuracy held = neighbour_accuracy(nearest_other(p, genus), family, family, genus, genus);
  EXPECT_EQ(all.counted, 5151);
  EXPECT_NEAR(all.fraction(), 0.9678, 5e-4);
  EXPECT_EQ(five.counted, 4984);  // families of five genes or more
  EXPECT_NEAR(five.fraction(), 0.975, 5e-4);
  EXPECT_EQ(held.counted, 4775);
  EXPECT_NEAR(held.fraction(), 0.804, 5e-4);
}

}  // namespace
}  // namespace whence
