/* Every op, once: the order of all tables. Its row is dt_row_<name>, in op_<family>.c. */
#ifndef DT_CORE_OP_LIST_H
#define DT_CORE_OP_LIST_H

#define DT_OP_LIST(OP)                                                                                       \
    OP(EDIT, edit)                                                                                           \
    OP(INPUT, input)                                                                                         \
    OP(CONV, conv)                                                                                           \
    OP(DENSE, dense)                                                                                         \
    OP(BATCHNORM, batchnorm)                                                                                 \
    OP(UNARY, unary)                                                                                         \
    OP(BINARY, binary)                                                                                       \
    OP(SOFTMAX, softmax)                                                                                     \
    OP(LOG_SOFTMAX, log_softmax)                                                                             \
    OP(LAYERNORM, layernorm)                                                                                 \
    OP(RMSNORM, rmsnorm)                                                                                     \
    OP(GROUPNORM, groupnorm)                                                                                 \
    OP(EMBED, embed)                                                                                         \
    OP(ONE_HOT, one_hot)                                                                                     \
    OP(POSITION, position)                                                                                   \
    OP(ROPE, rope)                                                                                           \
    OP(MAXPOOL, maxpool)                                                                                     \
    OP(AVGPOOL, avgpool)                                                                                     \
    OP(GLOBAL_AVGPOOL, global_avgpool)                                                                       \
    OP(RESAMPLE, resample)                                                                                   \
    OP(ADAPTIVE_MAXPOOL, adaptive_maxpool)                                                                   \
    OP(RESHAPE, reshape)                                                                                     \
    OP(CONCAT, concat)                                                                                       \
    OP(SLICE, slice)                                                                                         \
    OP(PAD, pad)                                                                                             \
    OP(TRANSPOSE, transpose)                                                                                 \
    OP(MATMUL, matmul)                                                                                       \
    OP(REDUCE, reduce)                                                                                       \
    OP(DROPOUT, dropout)                                                                                     \
    OP(ATTENTION, attention)                                                                                 \
    OP(RECURRENT, recurrent)                                                                                 \
    OP(XENT, xent)                                                                                           \
    OP(LOSS, loss)                                                                                           \
    OP(CAST, cast)                                                                                           \
    OP(CALL, call)                                                                                           \
    /* made of imported networks in 8 and 4 bits */                                                          \
    OP(QUANTIZE, quantize)                                                                                   \
    OP(DEQUANTIZE, dequantize)                                                                               \
    OP(QPRODUCT, qproduct)                                                                                   \
    /* made by passes out of BATCHNORM */                                                                    \
    OP(BN_STATS, bn_stats)                                                                                   \
    OP(BN_FINALIZE, bn_finalize)                                                                             \
    OP(BN_FOLD, bn_fold)                                                                                     \
    OP(BN_APPLY, bn_apply)                                                                                   \
    /* made by the pass sync_batchnorm */                                                                    \
    OP(BN_SYNC, bn_sync)                                                                                     \
    OP(BN_SYNC_GRAD, bn_sync_grad)                                                                           \
    /* made by the pass gram_batchnorm */                                                                    \
    OP(GRAM, gram)                                                                                           \
    OP(GRAM_CROSS, gram_cross)                                                                               \
    OP(BN_GRAM, bn_gram)                                                                                     \
    OP(BN_MASK, bn_mask)                                                                                     \
    OP(BN_GRAM_GRAD, bn_gram_grad)                                                                           \
    OP(BN_GRAM_DX, bn_gram_dx)                                                                               \
    /* made by the pass decode */                                                                            \
    OP(CACHE, cache)                                                                                         \
    /* made by autodiff */                                                                                   \
    OP(CONV_DGRAD, conv_dgrad)                                                                               \
    OP(CONV_WGRAD, conv_wgrad)                                                                               \
    OP(DENSE_DGRAD, dense_dgrad)                                                                             \
    OP(DENSE_WGRAD, dense_wgrad)                                                                             \
    OP(BIAS_GRAD, bias_grad)                                                                                 \
    OP(BN_REDUCE, bn_reduce)                                                                                 \
    OP(BN_DX, bn_dx)                                                                                         \
    OP(UNARY_BWD, unary_bwd)                                                                                 \
    OP(BINARY_BWD, binary_bwd)                                                                               \
    OP(SOFTMAX_BWD, softmax_bwd)                                                                             \
    OP(LOG_SOFTMAX_BWD, log_softmax_bwd)                                                                     \
    OP(LAYERNORM_BWD, layernorm_bwd)                                                                         \
    OP(RMSNORM_BWD, rmsnorm_bwd)                                                                             \
    OP(GROUPNORM_BWD, groupnorm_bwd)                                                                         \
    OP(EMBED_BWD, embed_bwd)                                                                                 \
    OP(ROPE_BWD, rope_bwd)                                                                                   \
    OP(MAXPOOL_BWD, maxpool_bwd)                                                                             \
    OP(AVGPOOL_BWD, avgpool_bwd)                                                                             \
    OP(GLOBAL_AVGPOOL_BWD, global_avgpool_bwd)                                                               \
    OP(RESAMPLE_BWD, resample_bwd)                                                                           \
    OP(ADAPTIVE_MAXPOOL_BWD, adaptive_maxpool_bwd)                                                           \
    OP(REDUCE_BWD, reduce_bwd)                                                                               \
    OP(DROPOUT_BWD, dropout_bwd)                                                                             \
    OP(ATTENTION_BWD, attention_bwd)                                                                         \
    OP(RECURRENT_BWD, recurrent_bwd)                                                                         \
    OP(XENT_BWD, xent_bwd)                                                                                   \
    OP(LOSS_BWD, loss_bwd)

#endif
