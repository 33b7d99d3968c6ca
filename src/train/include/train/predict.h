/* What a trained network says of samples that nobody labelled: `dtrain predict`. */
#ifndef DT_TRAIN_PREDICT_H
#define DT_TRAIN_PREDICT_H

#include "train/config.h"
#include "data/inputs.h"
#include "dist/comm.h"
#include "train/sink.h"

typedef struct dt_prediction {
    dt_input input;
    const char *error;          /* why there is none; NULL: there is one */
    int32_t n;                  /* classes that follow, the most probable first, of equals the lower index */
    const int32_t *index;       /* [n] */
    const double *probability;  /* [n] */
    const dt_data_facts *facts; /* names of classes */
    /* Of a network that tells no classes, in place of these: */
    int64_t n_value;
    const float *value; /* [n_value]: of labels the probability of each, else the network's numbers */
} dt_prediction;

/* What the predictions of a network are. */
typedef struct dt_predict_form {
    bool classes;
    bool labels;     /* the values are probabilities */
    int64_t n_value; /* 0: classes */
    char name[64];   /* of the values: the target's, "output" where there is none */
} dt_predict_form;

typedef struct dt_predict_options {
    int n_input;
    const char *const *input; /* as dt_inputs_open's */
    const char *columns;      /* of .csv files, as dt_inputs_arrays has it; NULL: all */
    int64_t top;              /* classes per input, as far as there are so many */
    /* On rank 0, once, before the first row. NULL: nobody asks. */
    dt_status (*begin)(void *arg, const dt_predict_form *form);
    /* On rank 0, in the order of the inputs. Other than DT_OK ends the job. */
    dt_status (*row)(void *arg, const dt_prediction *p);
    void *arg;
    const dt_sink *sink; /* what is worth knowing; NULL: nobody */
} dt_predict_options;

typedef struct dt_predict_result {
    int64_t n_inputs, n_failed;
} dt_predict_result;

/* Applies the checkpoint that run.resume asks for. The ranks share the inputs; rows do not depend on how many
 * there are. Images become the network's input as in evaluation; the host decodes them. A network that was trained on
 * arrays takes data sets of arrays and files of numbers. Inputs that cannot be read are rows with an error, and DT_ERR_DATA at the end. Collective; all ranks return the same. */
dt_status dt_predict(const dt_config *c, dt_comm *mpi, const dt_predict_options *o, dt_predict_result *out);

/* The n largest of n_class logits, of equals the lower index first, with their softmax. False where a logit
 * is not finite. */
bool dt_predict_top(const float *logit, int64_t n_class, int32_t n, int32_t *index, double *probability);

#endif
