module github.com/xeipuuv/gojsonschema

go 1.26.0
