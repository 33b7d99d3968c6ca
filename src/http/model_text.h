/* What a model is asked to be served with, in words: "image=imagenet,softmax=logits,labels=classes.txt". */
#ifndef DT_HTTP_MODEL_TEXT_H
#define DT_HTTP_MODEL_TEXT_H

#include "serve/engine.h"

/* Sets what the words say, parted by commas or ends of lines; texts are pieces of `words`, which is cut up for that and kept as long
 * as `o` is used. DT_ERR_CONFIG: a word that nobody knows. */
dt_status dt_http_model_words(char *words, dt_serve_model_options *o);
/* Where in "PATH,image=unit" the words begin: behind the comma, or at the end. */
char *dt_http_model_split(char *text);

#endif
