// The one C++ file of the room: toml++ parses, and its tree is copied into plain C values with their
// positions. Knows nothing of the configuration's keys.
#include "toml_shim.h"

#define TOML_EXCEPTIONS        0
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

// toml++ limits nested values but not dotted keys, whose tables it frees recursively.
bool text_is_sane(std::string_view text, dt_toml_error *error) {
    if (text.size() > DT_TOML_TEXT_MAX) {
        set_error(error, {1, 1}, "larger than 1 MiB: not a configuration");
        return false;
    }
    toml::source_index line = 1;
    int dots = 0;
    for (const char c : text) {
        if (c == '\n') {
            line++;
            dots = 0;
        } else if (c == '.' && ++dots > DT_TOML_LINE_DOTS_MAX) {
            set_error(error, {line, 1}, "more than 64 dots in one line");
            return false;
        }
    }
    return true;
}

} // namespace

extern "C" dt_toml *dt_toml_parse(const char *text, size_t size, dt_toml_error *error) {
    *error = dt_toml_error{};
    try {
        const std::string_view view(text, size);
        if (!text_is_sane(view, error)) return nullptr;
        const toml::parse_result result = toml::parse(view);
        if (!result) {
            set_error(error, result.error().source().begin, result.error().description());
            return nullptr;
        }
        auto doc = std::make_unique<dt_toml>();
        if (!Copier(doc.get(), error).copy(result.table(), &doc->root)) return nullptr;
        return doc.release();
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
