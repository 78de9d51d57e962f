#pragma once

// Everything a user of Whence needs: #include <whence/whence.h>.

#include "autograd/graph.h"
#include "autograd/plan.h"
#include "autograd/rules.h"
#include "autograd/sweep.h"
#include "ops/ops.h"
#include "tensor/tensor.h"
#include "whence/version.h"
