// The one C++ file of the room: toml++ parses, and its tree is copied into plain C values with their
// positions. Knows nothing of the configuration's keys.
#include "toml_shim.h"

#include <stdexcept>

// toml++ 3.3 asserts on some malformed keys, and without assertions reads on; such text is to be refused as
// any other.
struct toml_lost : std::runtime_error {
    toml_lost() : std::runtime_error("malformed key or table") {}
};
static constexpr void toml_holds(bool holds) {
    if (!holds) throw toml_lost();
}
#undef NDEBUG // under which toml++ would drop these checks
#define TOML_ASSERT(expr)      toml_holds(static_cast<bool>(expr))
#define TOML_EXCEPTIONS        1
#define TOML_HEADER_ONLY       1
#define TOML_MAX_NESTED_VALUES 16
#include <toml++/toml.h>

#include <algorithm>
#include <cstdio>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct dt_toml {
    std::deque<std::string> strings;
    std::deque<std::vector<dt_toml_value>> items;
    dt_toml_value root;
};

namespace {

void set_error(dt_toml_error *error, toml::source_position at, std::string_view text) {
    error->line = static_cast<int32_t>(at.line);
    error->column = static_cast<int32_t>(at.column);
    std::snprintf(error->text, sizeof error->text, "%.*s",
                  static_cast<int>(std::min<size_t>(text.size(), 250)), text.data());
}

// Copies toml++'s tree; false with *error set for what a configuration cannot hold.
class Copier {
  public:
    Copier(dt_toml *doc, dt_toml_error *error) : doc_(doc), error_(error) {}

    bool copy(const toml::node &node, dt_toml_value *out) {
        const toml::source_position at = node.source().begin;
        out->line = out->key_line = static_cast<int32_t>(at.line);
        out->column = out->key_column = static_cast<int32_t>(at.column);
        switch (node.type()) {
        case toml::node_type::table:
            return copy_table(*node.as_table(), out);
        case toml::node_type::array:
            return copy_array(*node.as_array(), out);
        case toml::node_type::string:
            out->kind = DT_TOML_STRING;
            return keep(node.as_string()->get(), at, &out->string);
        case toml::node_type::integer:
            out->kind = DT_TOML_INT;
            out->integer = node.as_integer()->get();
            return true;
        case toml::node_type::floating_point:
            out->kind = DT_TOML_FLOAT;
            out->real = node.as_floating_point()->get();
            return true;
        case toml::node_type::boolean:
            out->kind = DT_TOML_BOOL;
            out->boolean = node.as_boolean()->get();
            return true;
        default:
            out->kind = DT_TOML_DATE;
            return true;
        }
    }

  private:
    bool keep(const std::string &s, toml::source_position at, const char **out) {
        if (s.find('\0') != std::string::npos) {
            set_error(error_, at, "a NUL character is not allowed");
            return false;
        }
        doc_->strings.push_back(s);
        *out = doc_->strings.back().c_str();
        return true;
    }

    bool copy_table(const toml::table &table, dt_toml_value *out) {
        std::vector<dt_toml_value> values;
        for (auto &&[key, node] : table) {
            dt_toml_value v{};
            if (!copy(node, &v)) return false;
            const toml::source_position at = key.source().begin;
            if (at.line > 0) {
                v.key_line = static_cast<int32_t>(at.line);
                v.key_column = static_cast<int32_t>(at.column);
            }
            if (!keep(std::string(key.str()), at, &v.key)) return false;
            values.push_back(v);
        }
        // toml++ sorts by name; a reader expects the first error of the text first.
        std::stable_sort(values.begin(), values.end(), [](const dt_toml_value &a, const dt_toml_value &b) {
            return a.key_line != b.key_line ? a.key_line < b.key_line : a.key_column < b.key_column;
        });
        out->kind = DT_TOML_TABLE;
        store(std::move(values), out);
        return true;
    }

    bool copy_array(const toml::array &array, dt_toml_value *out) {
        std::vector<dt_toml_value> values;
        for (auto &&node : array) {
            dt_toml_value v{};
            if (!copy(node, &v)) return false;
            values.push_back(v);
        }
        out->kind = DT_TOML_ARRAY;
        store(std::move(values), out);
        return true;
    }

    void store(std::vector<dt_toml_value> &&values, dt_toml_value *out) {
        doc_->items.push_back(std::move(values));
        out->items = doc_->items.back().data();
        out->n_items = static_cast<int32_t>(doc_->items.back().size());
    }

    dt_toml *doc_;
    dt_toml_error *error_;
};

// Follows strings and comments through a text, as far as is needed to know what stands outside of them.
class Outline {
  public:
    // Takes the byte at `i`; returns how many bytes belong together there.
    size_t step(std::string_view text, size_t i) {
        const char c = text[i];
        const bool three = text.substr(i, 3) == std::string(3, c);
        if (c == '\n' && (comment_ || !multi_line_)) {
            comment_ = false;
            quote_ = 0;
        } else if (comment_ || c == '\n') {
            return 1;
        } else if (quote_ == 0 && (c == '"' || c == '\'')) {
            quote_ = c;
            multi_line_ = three;
            return three ? 3 : 1;
        } else if (quote_ == 0) {
            comment_ = c == '#';
        } else if (quote_ == '"' && c == '\\' && text.substr(i + 1, 1) != "\n") {
            return std::min<size_t>(2, text.size() - i);
        } else if (c == quote_ && (!multi_line_ || three)) {
            return close(text, i);
        }
        return 1;
    }

    // Whether toml++ can take a character beyond ASCII here. In strings of several lines it could by TOML's
    // rules.
    bool takes_unicode() const { return comment_ || (quote_ != 0 && !multi_line_); }

  private:
    size_t close(std::string_view text, size_t i) {
        const char c = quote_;
        size_t n = multi_line_ ? 3 : 1;
        // One or two quotes may stand directly before the closing three.
        while (multi_line_ && n < 5 && text.substr(i + n, 1) == std::string(1, c)) n++;
        quote_ = 0;
        multi_line_ = false;
        return n;
    }

    bool comment_ = false, multi_line_ = false;
    char quote_ = 0;
};

// What toml++ 3.3 must not see: dotted keys without end, whose tables it frees recursively, and characters
// beyond ASCII outside of strings and comments, which TOML forbids and which lead its tables of Unicode
// spaces astray.
bool text_is_sane(std::string_view text, dt_toml_error *error) {
    if (text.size() > DT_TOML_TEXT_MAX) {
        set_error(error, {1, 1}, "larger than 1 MiB: not a configuration");
        return false;
    }
    const std::string_view byte_order_mark = "\xef\xbb\xbf";
    Outline outline;
    toml::source_index line = 1;
    size_t line_start = text.substr(0, 3) == byte_order_mark ? 3 : 0;
    int dots = 0;
    for (size_t i = line_start, n = 0; i < text.size(); i += n) {
        const toml::source_position at = {line, static_cast<toml::source_index>(i - line_start + 1)};
        if (static_cast<unsigned char>(text[i]) >= 0x80 && !outline.takes_unicode()) {
            set_error(error, at, "only ASCII characters are allowed outside of strings and comments");
            return false;
        }
        if (text[i] == '.' && ++dots > DT_TOML_LINE_DOTS_MAX) {
            set_error(error, {line, 1}, "more than 64 dots in one line");
            return false;
        }
        n = outline.step(text, i);
        if (text[i] == '\n') {
            line++;
            line_start = i + 1;
            dots = 0;
        }
    }
    return true;
}

bool loses_way(std::string_view text) {
    try {
        (void)toml::parse(text);
    } catch (const toml_lost &) {
        return true;
    } catch (...) {
    }
    return false;
}

// The line on which toml++ loses its way. It reads forward, so all longer texts are lost too: bisect.
int32_t lost_line(std::string_view text) {
    size_t low = 0, high = text.size();
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (loses_way(text.substr(0, text.find('\n', middle))))
            high = middle;
        else
            low = middle + 1;
    }
    return static_cast<int32_t>(1 +
                                std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(low), '\n'));
}

} // namespace

extern "C" dt_toml *dt_toml_parse(const char *text, size_t size, dt_toml_error *error) {
    *error = dt_toml_error{};
    const std::string_view view(text, size);
    try {
        if (!text_is_sane(view, error)) return nullptr;
        const toml::table table = toml::parse(view);
        auto doc = std::make_unique<dt_toml>();
        if (!Copier(doc.get(), error).copy(table, &doc->root)) return nullptr;
        return doc.release();
    } catch (const toml::parse_error &e) {
        set_error(error, e.source().begin, e.description());
    } catch (const toml_lost &e) {
        set_error(error, {1, 1}, e.what());
        error->line = lost_line(view);
    } catch (const std::exception &e) {
        set_error(error, {1, 1}, e.what());
    } catch (...) {
        set_error(error, {1, 1}, "cannot be parsed");
    }
    return nullptr;
}

extern "C" const dt_toml_value *dt_toml_root(const dt_toml *doc) {
    return &doc->root;
}

extern "C" void dt_toml_free(dt_toml *doc) {
    delete doc;
}

extern "C" const char *dt_toml_kind_name(dt_toml_kind kind) {
    static const char *const names[] = {
        "a table", "an array", "a string", "an integer", "a number with a point", "a boolean", "a date"};
    return names[kind];
}
