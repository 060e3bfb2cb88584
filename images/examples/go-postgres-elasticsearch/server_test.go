package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// The API over HTTP, before its real services.

func start(t *testing.T) *httptest.Server {
	t.Helper()
	db, err := sql.Open("postgres", os.Getenv("TEST_DATABASE_URL"))
	if err != nil {
		t.Fatal(err)
	}
	if err := migrate(db); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("truncate articles"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(newServer(db, os.Getenv("ELASTICSEARCH_URL")))
	t.Cleanup(func() { server.Close(); db.Close() })
	return server
}

func post(t *testing.T, server *httptest.Server, body string) (int, article) {
	t.Helper()
	response, err := http.Post(server.URL+"/articles", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var a article
	json.NewDecoder(response.Body).Decode(&a)
	return response.StatusCode, a
}

func TestAnArticleIsKept(t *testing.T) {
	server := start(t)
	status, a := post(t, server, `{"title": "Leap seconds", "body": "There are 27."}`)
	if status != http.StatusCreated {
		t.Fatalf("got %d", status)
	}
	response, err := http.Get(fmt.Sprintf("%s/articles/%d", server.URL, a.ID))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var kept article
	json.NewDecoder(response.Body).Decode(&kept)
	if kept != a {
		t.Errorf("got %v, want %v", kept, a)
	}
}

func TestAnArticleNeedsATitle(t *testing.T) {
	if status, _ := post(t, start(t), `{"title": " "}`); status != http.StatusUnprocessableEntity {
		t.Errorf("got %d", status)
	}
}

func TestAnArticleIsFound(t *testing.T) {
	if os.Getenv("ELASTICSEARCH_URL") == "" {
		t.Skipf("no Elasticsearch: %s", os.Getenv("ELASTICSEARCH_MISSING"))
	}
	server := start(t)
	post(t, server, `{"title": "Leap seconds", "body": "There are 27."}`)
	post(t, server, `{"title": "Leap years", "body": "There are many."}`)
	response, err := http.Get(server.URL + "/search?q=body:27")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var result struct{ Articles []article }
	json.NewDecoder(response.Body).Decode(&result)
	if len(result.Articles) == 0 || result.Articles[0].Title != "Leap seconds" {
		t.Errorf("got %v", result.Articles)
	}
}
