// Layers, optimisers, training, checkpoints, metrics: #include <whence/nn.h>.
#pragma once

#include "whence/nn/checkpoint.h"
#include "whence/nn/conv.h"
#include "whence/nn/evaluate.h"
#include "whence/nn/fit.h"
#include "whence/nn/layers.h"
#include "whence/nn/metrics.h"
#include "whence/nn/norm.h"
#include "whence/nn/optim.h"
#include "whence/nn/progress.h"
#include "whence/nn/recurrent.h"
#include "whence/nn/rotary.h"
#include "whence/nn/schedule.h"
#include "whence/nn/train.h"
#include "whence/nn/windows.h"
#include "whence/whence.h"
