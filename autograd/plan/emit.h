// The last pass: where each root lies, and the steps that the executor runs.
#pragma once
#include "whence/autograd/plan/passes.h"

namespace whence::planner {

/// Where the roots of the lowered form live.
class Storage {
 public:
  Storage(Program& p, const Lowered& low, const Schedule& order);
  /// The value's first byte, relative to a base pointer.
  Ref at(Id value) const;
  /// False: only its own group reads it, so it stays in a register.
  bool in_memory(Id root) const { return stored_[root]; }
  int64_t workspace(Id position) const;
  Id block(Id root) const { return block_[root]; }
  bool donated(Id root) const { return donated_[root]; }  ///< a later value lives in its place

 private:
  void find_lifetimes();
  void skip_unread(const INode& n);
  void reuse_in_group(const Unit& u, Id position);
  void reuse_in_kernel(const INode& n, Id position);
  void place();
  uint8_t lane_of_block(Id root, Id position) const;
  void read(Id root, Id reader);
  bool dies(Id root, Id position) const;
  void give(Id donor, Id root);
  size_t bytes(Id root) const { return size_t(low_.ir.types[root].shape.numel()) * size_of(low_.ir.types[root].dtype); }

  Program& p_;
  const Lowered& low_;
  const Schedule& order_;
  std::vector<Id> first_, last_;  // by root: steps
  std::vector<Id> after_others_;  // by root: the first step that comes after all readers on other lanes
  std::vector<Id> block_, base_;  // by root; kNone: in no block
  std::vector<char> stored_, donated_;
  std::vector<char> read_;                           // by root: a step reads it, or it is an output
  std::vector<std::vector<Id>> clock_, lane_steps_;  // several lanes: lane_clocks, and the steps of each
  std::vector<Id> work_;                             // by step: block of its workspace
};

/// The neutral form of a fused group.
FusedGroup make_group(const Lowered& low, const Storage& storage, std::span<const Id> members);

}  // namespace whence::planner
