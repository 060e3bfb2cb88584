package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// index finds articles in Elasticsearch by its REST API; without a url nothing is indexed or found.
type index struct{ url string }

func (i *index) put(a article) error {
	if i.url == "" {
		return nil
	}
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	// Found at once by who comes next.
	path := fmt.Sprintf("%s/articles/_doc/%d?refresh=true", i.url, a.ID)
	request, err := http.NewRequest(http.MethodPut, path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("content-type", "application/json")
	_, err = send(request)
	return err
}

func (i *index) search(text string) ([]article, error) {
	found := []article{}
	if i.url == "" {
		return found, nil
	}
	request, err := http.NewRequest(http.MethodGet, i.url+"/articles/_search?q="+url.QueryEscape(text), nil)
	if err != nil {
		return nil, err
	}
	body, err := send(request)
	if err != nil {
		return nil, err
	}
	var result struct {
		Hits struct {
			Hits []struct {
				Source article `json:"_source"`
			} `json:"hits"`
		} `json:"hits"`
	}
	if err := json.Unmarshal(body, &result); err != nil {
		return nil, err
	}
	for _, hit := range result.Hits.Hits {
		found = append(found, hit.Source)
	}
	return found, nil
}

func send(request *http.Request) ([]byte, error) {
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 300 {
		err = fmt.Errorf("elasticsearch answers %d: %s", response.StatusCode, body)
	}
	return body, err
}
