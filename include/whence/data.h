// Reading, splitting, tokenising and batching data: #include <whence/data.h>.
#pragma once

#include "whence/nn/data/csv.h"
#include "whence/nn/data/fasta.h"
#include "whence/nn/data/idx.h"
#include "whence/nn/data/images.h"
#include "whence/nn/data/kmer_knn.h"
#include "whence/nn/data/loader.h"
#include "whence/nn/data/random_stream.h"
#include "whence/nn/data/select.h"
#include "whence/nn/data/split.h"
#include "whence/nn/data/subword.h"
#include "whence/nn/data/taxonomy.h"
#include "whence/nn/data/text.h"
#include "whence/nn/data/tokenizer.h"
#include "whence/nn/io/npy.h"
#include "whence/nn/io/png.h"
#include "whence/nn/io/safetensors.h"
