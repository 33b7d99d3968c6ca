/* The page at /, made of page.html. */
#ifndef DT_HTTP_PAGE_H
#define DT_HTTP_PAGE_H

extern const unsigned char dt_http_page[]; /* '\0'-terminated */

#endif
