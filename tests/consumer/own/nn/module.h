#error "the user's own nn/module.h was taken for Whence's"
