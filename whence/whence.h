// Everything a user of Whence needs: #include <whence/whence.h>.
#pragma once

#include "autograd/checkpoint.h"
#include "autograd/function.h"
#include "autograd/graph.h"
#include "autograd/plan.h"
#include "autograd/sweep.h"
#include "lrp/explain.h"
#include "ops/composite.h"
#include "ops/conv.h"
#include "ops/ctc.h"
#include "ops/ops.h"
#include "ops/resize.h"
#include "ops/scalar_row.h"
#include "tensor/parallel.h"
#include "tensor/tensor.h"
#include "whence/version.h"
