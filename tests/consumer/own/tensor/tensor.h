#error "the user's own tensor/tensor.h was taken for Whence's"
