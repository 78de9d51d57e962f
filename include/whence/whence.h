// Everything a user of Whence needs: #include <whence/whence.h>.
#pragma once

#include "whence/autograd/checkpoint.h"
#include "whence/autograd/function.h"
#include "whence/autograd/graph.h"
#include "whence/autograd/plan.h"
#include "whence/autograd/sweep.h"
#include "whence/lrp/explain.h"
#include "whence/ops/composite.h"
#include "whence/ops/conv.h"
#include "whence/ops/ctc.h"
#include "whence/ops/ops.h"
#include "whence/ops/resize.h"
#include "whence/ops/scan.h"
#include "whence/ops/scalar_row.h"
#include "whence/tensor/parallel.h"
#include "whence/tensor/tensor.h"
#include "whence/version.h"
