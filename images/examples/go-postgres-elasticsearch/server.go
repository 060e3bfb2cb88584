package main

import (
	"database/sql"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

type article struct {
	ID    int64  `json:"id"`
	Title string `json:"title"`
	Body  string `json:"body"`
}

type server struct {
	db    *sql.DB
	index *index
}

func newServer(db *sql.DB, elasticsearch string) http.Handler {
	s := &server{db: db, index: &index{url: elasticsearch}}
	mux := http.NewServeMux()
	mux.HandleFunc("/articles", s.articles)
	mux.HandleFunc("/articles/", s.article)
	mux.HandleFunc("/search", s.search)
	return mux
}

func (s *server) articles(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		answer(w, http.StatusMethodNotAllowed, map[string]string{"error": "POST an article"})
		return
	}
	var a article
	if err := json.NewDecoder(r.Body).Decode(&a); err != nil || strings.TrimSpace(a.Title) == "" {
		answer(w, http.StatusUnprocessableEntity, map[string]string{"error": "an article needs a title"})
		return
	}
	query := "insert into articles (title, body) values ($1, $2) returning id"
	if err := s.db.QueryRow(query, a.Title, a.Body).Scan(&a.ID); err != nil {
		fail(w, err)
		return
	}
	if err := s.index.put(a); err != nil {
		fail(w, err)
		return
	}
	answer(w, http.StatusCreated, a)
}

func (s *server) article(w http.ResponseWriter, r *http.Request) {
	id, _ := strconv.ParseInt(strings.TrimPrefix(r.URL.Path, "/articles/"), 10, 64)
	a := article{ID: id}
	err := s.db.QueryRow("select title, body from articles where id = $1", id).Scan(&a.Title, &a.Body)
	if err == sql.ErrNoRows {
		answer(w, http.StatusNotFound, map[string]string{"error": "there is no such article"})
		return
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, http.StatusOK, a)
}

func (s *server) search(w http.ResponseWriter, r *http.Request) {
	found, err := s.index.search(r.URL.Query().Get("q"))
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, http.StatusOK, map[string][]article{"articles": found})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

func fail(w http.ResponseWriter, err error) {
	answer(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
}
